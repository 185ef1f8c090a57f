"""The inputs for a part of a call: some of its positions, or some of its frames.

Strengths that are masks, and features, are laid out here as the hidden states are: ``(positions, frames, 1)`` or
``(positions, frames, channels)``.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from .call import MotionInputs
from .features import FrameFeatures
from .strength import FrameMask, Strength
from .views import Place

LaidOut = float | torch.Tensor | None
# One entry per attention block; None for 1.
Scales = tuple[LaidOut, ...]


def varies_over_picture(inputs: MotionInputs, scales: tuple[Strength | None, ...]) -> bool:
    return bool(inputs.low_rank or inputs.merges or inputs.projections or inputs.ties) or any(
        isinstance(scale, FrameMask) for scale in scales
    )


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
    that will be computed; only their changes are kept. What is laid out gets the dtype and the device of ``like``.
    """
    inputs = replace(
        inputs,
        low_rank={name: changes for name, changes in inputs.low_rank.items() if name.startswith(layers)},
        merges={name: merge for name, merge in inputs.merges.items() if name.startswith(layers)},
        projections={name: one for name, one in inputs.projections.items() if name.startswith(layers)},
    )
    # One mask serves many layers, so each is laid out once.
    found = {}
    _changed(inputs, scales, lambda value: found.setdefault(id(value), value))
    pictures = {key: value for key, value in found.items() if isinstance(value, (FrameMask, FrameFeatures))}
    windows = inputs.windows
    parts = {key: _laid_out(value, windows, clips, height, width, like).split(sizes) for key, value in pictures.items()}
    for i in range(len(sizes)):
        part = {key: of_picture[i] for key, of_picture in parts.items()}
        yield _changed(inputs, scales, lambda value, part=part: part.get(id(value), value))


def in_view(inputs: MotionInputs, scales: Scales, frames: Place) -> tuple[MotionInputs, Scales]:
    """Inputs and scales for some of the call's frames. What is a picture for each frame has been laid out already."""
    inputs = replace(inputs, views=None)
    return _changed(inputs, scales, lambda value: value[:, frames] if isinstance(value, torch.Tensor) else value)


def _changed(inputs: MotionInputs, scales: tuple, change: Callable) -> tuple[MotionInputs, Scales]:
    """Every strength, and all features that meet hidden states, changed by a function."""
    low_rank = {
        name: tuple(replace(one, strength=change(one.strength)) for one in changes)
        for name, changes in inputs.low_rank.items()
    }
    merges = {
        name: replace(merge, features=change(merge.features), strength=change(merge.strength))
        for name, merge in inputs.merges.items()
    }
    projections = {
        name: replace(projection, features=change(projection.features))
        for name, projection in inputs.projections.items()
    }
    ties = None if inputs.ties is None else change(inputs.ties)
    changed = replace(inputs, low_rank=low_rank, merges=merges, projections=projections, ties=ties)
    return changed, tuple(map(change, scales))


def of_clips(pictures: torch.Tensor, windows: int) -> torch.Tensor:
    """Those of a cond, ``(windows * frames, …)``, as ``(windows, frames, …)``; a single one serves all."""
    return pictures.unflatten(0, (windows if len(pictures) > 1 else 1, -1))


def _laid_out(
    pictures: FrameMask | FrameFeatures, windows: int, clips: int, height: int, width: int, like: torch.Tensor
) -> torch.Tensor:
    """``(windows * frames, channels, height, width)`` -> ``(clips * height * width, frames, channels)``."""
    found = of_clips(pictures.at(height, width, like), windows).flatten(3).permute(0, 3, 1, 2)
    if isinstance(pictures, FrameFeatures) and pictures.clips is not None:
        of_clip = (found[clip % len(found)] for clip in range(clips))
        return torch.cat(
            [one if has else torch.zeros_like(one) for one, has in zip(of_clip, pictures.clips, strict=True)]
        )
    return found.repeat(clips // len(found), 1, 1, 1).flatten(0, 1)
