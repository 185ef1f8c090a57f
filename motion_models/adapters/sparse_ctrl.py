"""SparseCtrl: a ControlNet with temporal layers, for pictures or sketches of a few frames; the files that hold one.

Guo et al., "SparseCtrl" (arXiv 2311.16933), section 3.2: the encoder sees no noisy latents but zeros in their place, and beside
what a frame is given the mask that says whether it was given anything; temporal layers carry it to the other frames.
"""

import os
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import comfy.cldm.cldm
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import nn

from ...host.patcher import make_patcher, operations
from ..files.checking import MODULE_KEY, check_tensors
from ..files.errors import MotionModelFileError
from ..files.motion_model import interpret
from ..files.reading import read_tensors
from ..layouts import Tensors, our_names
from ..network.call import MotionInputs
from ..network.injection import find_sites
from ..network.temporal import MotionModel
from ..spec import MotionModelSpec
from .network import with_weights

PREFIX = re.compile(
    r"^.*?(?=(?:down_blocks|mid_block|conv_in|time_embedding|controlnet_(?:cond_embedding|down_blocks|mid_block))\.)"
)
TABLE_OF_SECOND = re.compile(r"\.attention_blocks\.1\.pos_encoder\.pe$")
HINT, ZERO = "controlnet_cond_embedding.", re.compile(r"^controlnet_down_blocks\.(\d+)\.")
HEADS = 8  # of spatial attention; SparseCtrl exists for Stable Diffusion 1.5
PIXELS = 8  # side by side that meet in one of the latents
NO_INPUTS = MotionInputs()


class HintOfPixels(nn.Sequential):
    """Sketches ``(frames, channels, 8 * height, 8 * width)`` -> features of the first level (Zhang et al., arXiv 2302.05543)."""

    def __init__(self, channels: int, to: int, widths: tuple[int, ...], dtype: torch.dtype | None = None):
        convs = [_conv(channels, widths[0], dtype)]
        for width, wider in pairwise(widths):
            convs += [_conv(width, width, dtype), _conv(width, wider, dtype, stride=2)]
        layers = [layer for conv in convs for layer in (conv, nn.SiLU())]
        super().__init__(*layers, _conv(widths[-1], to, dtype))


def _conv(channels: int, to: int, dtype: torch.dtype | None, stride: int = 1) -> nn.Module:
    return operations().Conv2d(channels, to, 3, stride=stride, padding=1, dtype=dtype)


class SparseControlNet(nn.Module):
    """``config``: of the host's ControlNet, whose blocks these are; ``spec``: of the temporal layers behind them.

    ``hint``: from what frames are given, their mask the last channel, to features of the first level. ``of_latents``: that it
    takes latents of pictures, not pixels of sketches; ``hint_channels`` of them, without the mask.
    """

    def __init__(self, config: dict, spec: MotionModelSpec, hint: nn.Module, hint_channels: int, dtype=None):
        super().__init__()
        layers = {"operations": operations(), "dtype": dtype, "device": None}
        self.control: Any = comfy.cldm.cldm.ControlNet(hint_channels=1, **config, **layers)
        self.control.input_hint_block = nn.Identity()
        self.hint, self.hint_channels = hint, hint_channels
        self.of_latents = not isinstance(hint, HintOfPixels)
        self.motion = MotionModel(spec, dtype)
        places = SimpleNamespace(input_blocks=self.control.input_blocks, middle_block=None, output_blocks=())
        blocks = [id(site.block) for site in find_sites(places)["down"]]
        self.behind = [blocks.index(id(block)) if id(block) in blocks else None for block in self.control.input_blocks]

    @property
    def max_frames(self) -> int:
        return self.motion.spec.max_frames

    def forward(self, hint: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, frames: int) -> dict:
        """What is added to the UNet's skip connections and middle, as the host's ControlNets give it.

        ``hint (clips * frames, channels + 1, height, width)``, clip by clip, as ``timesteps`` and ``context`` are.
        """
        control, modules = self.control, list(self.motion.modules_of("down"))
        emb = control.time_embed(timestep_embedding(timesteps, control.model_channels).to(hint.dtype))
        h = self.hint(hint)
        # instead of noisy latents zeros: what the first layer makes of them is its bias
        first = control.input_blocks[0](h.new_zeros(1, control.in_channels, *h.shape[-2:]), emb[:1], context[:1])
        h = h + first
        outputs = [control.zero_convs[0](h, emb, context)]
        later = zip(control.input_blocks, control.zero_convs, self.behind, strict=True)
        for block, zero, module in list(later)[1:]:
            h = block(h, emb, context)
            if module is not None:
                h = modules[module](h, frames, NO_INPUTS)
            outputs.append(zero(h, emb, context))
        h = control.middle_block(h, emb, context)
        return {"middle": [control.middle_block_out(h, emb, context)], "output": outputs}


def load_sparse_ctrl(path: str, disable_dynamic: bool = False):
    """A patcher of a SparseControlNet, from AnimateDiff's layout or diffusers'. Raises MotionModelFileError."""
    name = os.path.basename(path)
    tensors, metadata = read_tensors(path)
    tensors = our_names({key[match.end() :]: value for key, value in tensors.items() if (match := PREFIX.match(key))})
    motion = {key: value for key, value in tensors.items() if MODULE_KEY.match(key)}
    if not motion or not any(key.startswith(HINT) for key in tensors):
        raise MotionModelFileError(
            f"'{name}' is no SparseCtrl file: it has no {'temporal layers' if not motion else 'layers for the pictures'}. Choose one "
            "such as v3_sd15_sparsectrl_rgb.ckpt; load a plain ControlNet with Load ControlNet Model, a motion model with Load "
            "AnimateDiff Model."
        )
    if not any(".attention_blocks.1.to_q." in key for key in motion):
        # one attention a block: the table that diffusers' layout has for both is that of the first
        motion = {key: value for key, value in motion.items() if not TABLE_OF_SECOND.search(key)}
    spec, motion = interpret(os.path.splitext(name)[0], motion, metadata)
    check_tensors(spec, motion)
    config = _config(name, tensors)
    names = comfy.utils.unet_to_diffusers(config)
    found = {f"motion.{key}": value for key, value in motion.items()}
    for key, value in tensors.items():
        if key in names:
            found[f"control.{names[key]}"] = value
        elif ZERO.match(key):
            found[f"control.{ZERO.sub(lambda match: f'zero_convs.{match[1]}.0.', key)}"] = value
        elif key.startswith("controlnet_mid_block."):
            found[f"control.middle_block_out.0.{key.rpartition('.')[2]}"] = value
        elif key.startswith(HINT):
            found[_hint_name(key, tensors)] = value
        elif not MODULE_KEY.match(key):
            found[key] = value  # unknown, and told so

    shapes = {key: torch.empty(value.shape, device="meta") for key, value in tensors.items() if key.startswith(HINT)}
    del tensors, motion  # they go as they are taken over

    def build(dtype: torch.dtype | None) -> SparseControlNet:
        hint, channels = _hint(shapes, config["model_channels"], dtype)
        return SparseControlNet(config, spec, hint, channels - 1, dtype)

    network = with_weights(name, "a SparseCtrl file", build, found, disable_dynamic)
    return make_patcher(network, (load_sparse_ctrl, (path,)), disable_dynamic)


def _hint_name(key: str, tensors: Tensors) -> str:
    """Of a tensor for the pictures, in our network: activations stand between convolutions."""
    layer, part = key.removeprefix(HINT).rpartition(".")[::2]
    blocks = _count(tensors, f"{HINT}blocks.")
    places = {"conv_in": 0, **{f"blocks.{i}": 2 * (i + 1) for i in range(blocks)}, "conv_out": 2 * (blocks + 1)}
    return f"hint.{places.get(layer, layer)}.{part}" if layer else f"hint.{part}"


def _hint(tensors: Tensors, to: int, dtype: torch.dtype | None) -> tuple[nn.Module, int]:
    """The layers for the pictures, and their input channels."""
    one = tensors.get(f"{HINT}weight")
    if one is not None:
        return _conv(one.shape[1], to, dtype), one.shape[1]
    first = tensors[f"{HINT}conv_in.weight"]
    blocks = _count(tensors, f"{HINT}blocks.")
    widths = [len(first), *(len(tensors[f"{HINT}blocks.{i}.weight"]) for i in range(1, blocks, 2))]
    return HintOfPixels(first.shape[1], to, tuple(widths), dtype), first.shape[1]


def _config(name: str, tensors: Tensors) -> dict:
    """That of the host's ControlNet, read off the tensors in diffusers' names."""
    try:
        levels = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("down_blocks."))
        resnets = [_count(tensors, f"down_blocks.{level}.resnets.") for level in range(levels)]
        widths = [len(tensors[f"down_blocks.{level}.resnets.0.conv1.weight"]) for level in range(levels)]
        depths = [
            _count(tensors, f"down_blocks.{level}.attentions.{i}.transformer_blocks.")
            for level in range(levels)
            for i in range(resnets[level])
        ]
        attention = "mid_block.attentions.0."
        return {
            "image_size": 32,
            "in_channels": tensors["conv_in.weight"].shape[1],
            "model_channels": widths[0],
            "channel_mult": tuple(width // widths[0] for width in widths),
            "num_res_blocks": resnets,
            "transformer_depth": depths,
            "transformer_depth_output": [0] * (sum(resnets) + levels),
            "transformer_depth_middle": _count(tensors, f"{attention}transformer_blocks."),
            "context_dim": tensors[f"{attention}transformer_blocks.0.attn2.to_k.weight"].shape[1],
            "use_linear_in_transformer": tensors[f"{attention}proj_in.weight"].ndim == 2,
            "use_spatial_transformer": True,
            "num_heads": HEADS,
            "legacy": False,
        }
    except (KeyError, ValueError, IndexError) as error:
        raise MotionModelFileError(
            f"'{name}' looks like a SparseCtrl file, but is not complete ({error} is missing). Download it again."
        ) from error


def _count(tensors: Tensors, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})
