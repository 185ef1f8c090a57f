"""Names of the UNet's layers as kohya's scripts write them, whose LoRA files ComfyUI, diffusers and they themselves read.

In SD1.5 they are diffusers' names of the layers, in SDXL those of the checkpoint; both with underscores where dots were.
"""

import re

import torch

from ..motion_models.layouts import Tensors

PART = re.compile(r"^(?P<layer>.+)\.(?P<half>lora_(?:down|up)\.weight)$")
# A spatial transformer of a UNet with two residual blocks a level, as SD1.5 and SDXL have them.
ATTENTION = re.compile(
    r"^diffusion_model\.(?:(?P<part>input|output)_blocks\.(?P<block>\d+)|middle_block)\.1\.(?P<rest>(?:transformer_blocks|proj_)\S+)$"
)
A_LEVEL = 3  # blocks
# The blocks that have one, by part.
SD15 = {"input": {1, 2, 4, 5, 7, 8}, "output": set(range(3, 12))}
SDXL = {"input": {4, 5, 7, 8}, "output": set(range(6))}


def named_as_kohya(tensors: Tensors) -> Tensors:
    """``diffusion_model.input_blocks.1.1.….lora_down.weight`` in kohya's names, with an ``alpha``; the strength stays 1.

    All layers have the same alpha, that of the highest rank, and lower ranks the difference in their ``up``: diffusers 0.42 loses
    an alpha that is not that of most layers. Tensors stay as they are, where something else is among them than pairs of the
    spatial transformers of SD1.5 or SDXL.
    """
    parts = {key: PART.match(key) for key in tensors}
    layers = {part["layer"]: ATTENTION.match(part["layer"]) for part in parts.values() if part}
    places = [(match["part"], int(match["block"])) for match in layers.values() if match and match["part"]]
    family = next((one for one in (SD15, SDXL) if all(block in one[part] for part, block in places)), None)
    if family is None or not all(parts.values()) or not all(layers.values()):
        return tensors
    names = {layer: _kohyas(match) if family is SD15 else layer for layer, match in layers.items() if match}
    ranks = {
        part["layer"]: len(tensors[key]) for key, part in parts.items() if part and part["half"].startswith("lora_down")
    }
    alpha = max(ranks.values(), default=1)
    renamed = {}
    for key, value in tensors.items():
        layer, half = PART.match(key).groups()  # pyright: ignore[reportOptionalMemberAccess]
        name = names[layer].replace("diffusion_model.", "lora_unet.").replace(".", "_")
        if half.startswith("lora_down"):
            renamed[f"{name}.alpha"] = torch.tensor(float(alpha))
        elif ranks[layer] != alpha:
            value = value * (ranks[layer] / alpha)
        renamed[f"{name}.{half}"] = value
    return renamed


def _kohyas(match: re.Match) -> str:
    """diffusers' name of a layer of SD1.5, below ``diffusion_model``."""
    block = int(match["block"] or 0)
    place = {
        "input": f"down_blocks.{(block - 1) // A_LEVEL}.attentions.{(block - 1) % A_LEVEL}",
        "output": f"up_blocks.{block // A_LEVEL}.attentions.{block % A_LEVEL}",
        None: "mid_block.attentions.0",
    }[match["part"]]
    return f"diffusion_model.{place}.{match['rest']}"
