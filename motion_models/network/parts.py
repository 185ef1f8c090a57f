"""The inputs for a part of a call: some of its positions, or some of its frames.

Strengths that are masks over the picture are laid out here as the hidden states are, ``(positions, frames, 1)``.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.nn import functional

from .call import LowRank, MotionInputs
from .frame_mask import FrameMask

# One entry per attention block: a number, a mask laid out, or None for 1.
Scales = tuple[float | torch.Tensor | None, ...]


def varies_over_picture(inputs: MotionInputs, scales: tuple) -> bool:
    return bool(inputs.low_rank) or any(isinstance(scale, FrameMask) for scale in scales)


def scales_of_parts(
    scales: tuple, sizes: list[int], clips: int, height: int, width: int, like: torch.Tensor
) -> Iterator[Scales]:
    """The scales for each part of ``clips * height * width`` positions, cut into ``sizes``."""
    parts = [
        _laid_out(scale.at(height, width, like), clips).split(sizes) if isinstance(scale, FrameMask) else scale
        for scale in scales
    ]
    for i in range(len(sizes)):
        yield tuple(part[i] if isinstance(part, tuple) else part for part in parts)


def scales_of_view(scales: Scales, frames: list[int]) -> Scales:
    return tuple(scale[:, frames] if isinstance(scale, torch.Tensor) else scale for scale in scales)


def inputs_of_parts(
    inputs: MotionInputs, layers: str, sizes: list[int], clips: int, height: int, width: int
) -> Iterator[MotionInputs]:
    """The inputs for each part of ``clips * height * width`` positions, cut into ``sizes``.

    Positions lie as the hidden states do: clip by clip, row by row. ``layers`` is how the names of the layers begin
    that will be computed; only their masks are laid out.
    """
    used = {name: changes for name, changes in inputs.low_rank.items() if name.startswith(layers)}
    masks = {id(c.strength): c.strength for changes in used.values() for c in changes if _is_mask(c.strength)}
    if not masks:
        yield from (inputs for _ in sizes)
        return
    # One mask serves many layers, so each is resized once.
    parts = {key: _laid_out(_resized(mask, height, width), clips).split(sizes) for key, mask in masks.items()}
    for i in range(len(sizes)):
        here = {
            name: tuple(replace(c, strength=parts[id(c.strength)][i]) if _is_mask(c.strength) else c for c in changes)
            for name, changes in used.items()
        }
        yield replace(inputs, low_rank=here)


def inputs_of_view(inputs: MotionInputs, frames: list[int]) -> MotionInputs:
    """The inputs for some of the call's frames. Strengths that are masks have been laid out already."""

    def cut(change: LowRank) -> LowRank:
        if not isinstance(change.strength, torch.Tensor):
            return change
        return replace(change, strength=change.strength[frames if change.strength.ndim == 1 else (slice(None), frames)])

    low_rank = {name: tuple(map(cut, changes)) for name, changes in inputs.low_rank.items()}
    return replace(inputs, low_rank=low_rank, views=())


def _is_mask(strength: float | torch.Tensor) -> bool:
    return isinstance(strength, torch.Tensor) and strength.ndim == 4


def _resized(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.interpolate(mask.float(), (height, width), mode="bilinear", align_corners=False)


def _laid_out(mask: torch.Tensor, clips: int) -> torch.Tensor:
    """``(frames, 1, height, width)`` -> ``(clips * height * width, frames, 1)``."""
    return mask.flatten(2).permute(2, 0, 1).repeat(clips, 1, 1)
