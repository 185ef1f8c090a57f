"""Tensor names in LoRA files: every writer's are made one, which layer of the network and which part of its change.

Parts are called as kohya's scripts and LyCORIS call them, which the host reads too: ``lora_down.weight``, ``alpha``,
``hada_w1_a`` … Which tools write which names is in docs/loras.md.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

import torch

from ..motion_models.layouts import PREFIX, Tensors, our_names
from .error import LoraFileError

# Layer name to the parts of its change.
Parts = dict[str, torch.Tensor]
Layers = dict[str, Parts]

# What peft puts before all names, where the names of a UNet follow: other networks' LoRAs need it.
PEFT_PREFIX = re.compile(
    r"^(?:unet\.)?base_model\.model\.(?:unet\.)?(?=(?:(?:down|up)_blocks|mid_block|conv_(?:in|out)|(?:time|add)_embedding)\.)"
)
# kohya's scripts and LyCORIS write underscores where layer names have dots.
UNDERSCORED = re.compile(r"^(?:lora_unet|lycoris)_+(?=(?:down|up)_blocks_|mid_block_)")
WORDS = (
    *("down_blocks", "mid_block", "up_blocks", "motion_modules", "temporal_attentions", "temporal_transformer"),
    *("transformer_blocks", "attention_blocks", "to_q", "to_k", "to_v", "to_out", "ff_norm", "proj_in", "proj_out"),
)
# How others spell parts. What stands in [^.]+ is the name of an adapter, which peft leaves in a whole state dict.
SPELLINGS = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"(?:_lora|\.lora|\.lora_linear_layer)\.(down|up)\.weight$", r".lora_\1.weight"),
        (r"(?:_lora|\.lora|\.lora_linear_layer)\.alpha$", ".alpha"),
        (r"\.lora_A(?:(?:\.[^.]+)?\.weight)?$", ".lora_down.weight"),
        (r"\.lora_B(?:(?:\.[^.]+)?\.weight)?$", ".lora_up.weight"),
        (r"\.lora_B(?:\.[^.]+)?\.bias$", ".diff_b"),
        (r"\.lora_magnitude_vector(?:\.[^.]+)*$", ".magnitude"),
        (r"\.((?:hada|lokr)_\w+)\.[^.]+$", r".\1"),
    )
)
PART = re.compile(
    r"^(?P<layer>.+)\.(?P<part>lora_(?:down|up|mid)\.weight|alpha|dora_scale|magnitude|diff|diff_b|hada_(?:w[12]_[ab]|t[12])"
    r"|lokr_(?:w[12](?:_[ab])?|t2))$"
)


def without_prefix(key: str) -> str:
    """A tensor's name without what wrappers of the network have put before it."""
    return PREFIX.sub("", PEFT_PREFIX.sub("", key))


def in_layers(file_name: str, tensors: Tensors) -> tuple[Layers, Tensors]:
    """Tensors by layer (without prefixes) and part; and those that are no part of a change that we know.

    Raises LoraFileError if a part is there twice.
    """
    layers: Layers = defaultdict(dict)
    others: Tensors = {}
    for key, value in tensors.items():
        spelled = key = without_prefix(key)
        for pattern, ours in SPELLINGS:
            spelled = pattern.sub(ours, spelled)
        match = PART.match(spelled)
        if match is None:
            others[key] = value
        elif match["part"] in layers[match["layer"]]:
            raise LoraFileError(
                f"'{file_name}' holds more than one LoRA for the same layers ({key} comes for the second time). Save each in "
                "a file of its own, or merge them."
            )
        else:
            layers[match["layer"]][match["part"]] = value
    return dict(layers), others


def motion_layers(layers: Mapping[str, Parts]) -> Layers:
    """Layers of motion modules, under the names that the rest of the package has for them."""
    renamed = {}
    for layer, parts in layers.items():
        if UNDERSCORED.match(layer):
            layer = UNDERSCORED.sub("", layer).replace("_", ".")
            for word in WORDS:
                layer = layer.replace(word.replace("_", "."), word)
        layer = layer.replace(".processor.", ".")
        renamed[f"{layer}.0" if layer.endswith(".to_out") else layer] = parts
    return our_names(renamed)
