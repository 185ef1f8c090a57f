"""The inputs for a part of a call: some of its positions, or some of its frames.

Strengths that are masks are laid out here as the hidden states are, ``(positions, frames, 1)``.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from .call import MotionInputs
from .strength import FrameMask, Strength

LaidOut = float | torch.Tensor | None
# One entry per attention block; None for 1.
Scales = tuple[LaidOut, ...]


def varies_over_picture(inputs: MotionInputs, scales: tuple[Strength | None, ...]) -> bool:
    return bool(inputs.low_rank) or any(isinstance(scale, FrameMask) for scale in scales)


def in_parts(
    inputs: MotionInputs,
    scales: tuple[Strength | None, ...],
    layers: str,
    sizes: list[int],
    clips: int,
    height: int,
    width: int,
    like: torch.Tensor,
) -> Iterator[tuple[MotionInputs, Scales]]:
    """Inputs and scales for each part of ``clips * height * width`` positions, cut into ``sizes``.

    Positions lie as the hidden states do: clip by clip, row by row. ``layers`` is how the names of the layers begin
    that will be computed; only their changes are kept. Masks get the dtype and the device of ``like``.
    """
    used = {name: changes for name, changes in inputs.low_rank.items() if name.startswith(layers)}
    inputs = replace(inputs, low_rank=used)
    strengths = (*scales, *(change.strength for changes in used.values() for change in changes))
    # One mask serves many layers, so each is laid out once.
    masks = {id(strength): strength for strength in strengths if isinstance(strength, FrameMask)}
    parts = {key: _laid_out(mask.at(height, width, like), clips).split(sizes) for key, mask in masks.items()}
    for i in range(len(sizes)):
        part = {key: of_mask[i] for key, of_mask in parts.items()}
        yield _changed(inputs, scales, lambda strength, part=part: part.get(id(strength), strength))


def in_view(inputs: MotionInputs, scales: Scales, frames: list[int]) -> tuple[MotionInputs, Scales]:
    """Inputs and scales for some of the call's frames. Strengths that are masks have been laid out already."""
    inputs = replace(inputs, views=())
    return _changed(inputs, scales, lambda value: value[:, frames] if isinstance(value, torch.Tensor) else value)


def _changed(inputs: MotionInputs, scales: tuple, change: Callable) -> tuple[MotionInputs, Scales]:
    """Every strength changed by a function."""
    low_rank = {
        name: tuple(replace(one, strength=change(one.strength)) for one in changes)
        for name, changes in inputs.low_rank.items()
    }
    return replace(inputs, low_rank=low_rank), tuple(map(change, scales))


def _laid_out(mask: torch.Tensor, clips: int) -> torch.Tensor:
    """``(frames, 1, height, width)`` -> ``(clips * height * width, frames, 1)``."""
    return mask.flatten(2).permute(2, 0, 1).repeat(clips, 1, 1)
