"""The live part of the toy world's motion module."""

import numpy as np
import torch

from . import unet

INNER = 120  # live channels inside a motion module, of unet.WIDTH
POSITIONS = 32


def _shapes() -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Live and full shape of every tensor of one temporal transformer, by name.

    What is written to the residual stream is alive at full width: layer norm takes its mean over all channels, so
    gradients reach those too that it then ignores.
    """
    n, full = unet.LIVE, unet.WIDTH
    block = "transformer_blocks.0."
    shapes = {
        "norm.weight": ((n,), (full,)),
        "norm.bias": ((n,), (full,)),
        "proj_in.weight": ((full, n), (full, full)),
        "proj_in.bias": ((full,), (full,)),
        f"{block}ff.net.0.proj.weight": ((8 * INNER, INNER), (8 * full, full)),
        f"{block}ff.net.0.proj.bias": ((8 * INNER,), (8 * full,)),
        f"{block}ff.net.2.weight": ((full, 4 * INNER), (full, 4 * full)),
        f"{block}ff.net.2.bias": ((full,), (full,)),
        f"{block}ff_norm.weight": ((INNER,), (full,)),
        f"{block}ff_norm.bias": ((INNER,), (full,)),
        "proj_out.weight": ((n, full), (full, full)),
        "proj_out.bias": ((n,), (full,)),
    }
    for i in (0, 1):
        attention = f"{block}attention_blocks.{i}."
        for projection in ("to_q", "to_k", "to_v"):
            shapes[f"{attention}{projection}.weight"] = ((INNER, INNER), (full, full))
        shapes[f"{attention}to_out.0.weight"] = ((full, INNER), (full, full))
        shapes[f"{attention}to_out.0.bias"] = ((full,), (full,))
        shapes[f"{attention}pos_encoder.pe"] = ((1, POSITIONS, INNER), (1, POSITIONS, full))
        for part in ("weight", "bias"):
            shapes[f"{block}norms.{i}.{part}"] = ((INNER,), (full,))
    return shapes


PLACES = (
    "down_blocks.0.motion_modules.0",
    "mid_block.motion_modules.0",
    "up_blocks.0.motion_modules.0",
    "up_blocks.0.motion_modules.1",
)


def untrained() -> dict[str, torch.Tensor]:
    """A motion module, v2 layout, full tensors. Its dead channels are zero, and training leaves them so.

    As the pack's own fresh modules (zero output projection, sinusoidal positions), but only a part of the width begins.
    """
    generator = torch.Generator().manual_seed(7)
    position, channel = torch.arange(POSITIONS)[:, None], torch.arange(0, INNER, 2)
    angle = position * torch.exp(channel * (-np.log(10000.0) / unet.WIDTH))
    table = torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[None].float()
    tensors = {}
    for place in PLACES:
        for name, (live, full) in _shapes().items():
            if name.endswith(".pe"):
                value = table
            elif name.endswith("bias") or name.startswith("proj_out"):
                value = torch.zeros(live)
            elif "norm" in name:
                value = torch.ones(live)
            else:
                begun = tuple(INNER if size == unet.WIDTH else size for size in live)
                value = (torch.rand(begun, generator=generator) * 2 - 1) * begun[1] ** -0.5
            tensors[f"{place}.temporal_transformer.{name}"] = unet.place(value, full)
    return tensors


def live_part(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cut the live channels out of a trained motion module; raises ValueError if others came alive."""
    live = {}
    for place in PLACES:
        for name, (shape, _) in _shapes().items():
            key = f"{place}.temporal_transformer.{name}"
            live[key] = unet.take(tensors[key], shape)
            if (unet.place(live[key], tuple(tensors[key].shape)) != tensors[key]).any():
                raise ValueError(f"{key} has values in channels that should be dead.")
    return live


def full(live: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of ``live_part``."""
    shapes = _shapes()
    return {
        key: unet.place(value, shapes[key.partition(".temporal_transformer.")[2]][1]) for key, value in live.items()
    }
