"""Low-rank changes of linear layers that last for one call: LoRAs in training, and those whose strength varies.

A LoRA of constant strength is better added to the weights once (the host's weight patches). What varies from step to
step, from frame to frame or over the picture cannot be, and is computed beside the layer instead.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.nn import functional

from .call import LowRank, MotionInputs


def add_low_rank(y: torch.Tensor, x: torch.Tensor, changes: tuple[LowRank, ...]) -> torch.Tensor:
    """``y``, a linear layer's result for ``x (positions, frames, channels)``, with its low-rank changes added.

    ``y`` is altered in place: nothing else may refer to it. Differentiable in ``x``, ``y`` and the changes.
    Strengths that are masks must have been laid out by ``inputs_of_parts``.
    """
    for change in changes:
        hidden = functional.linear(x, change.down.to(x))
        # the strength acts on the few channels in the middle, where it costs least
        if isinstance(change.strength, torch.Tensor):
            strength = change.strength.to(x)
            hidden = hidden * (strength[:, None] if strength.ndim == 1 else strength)
        elif change.strength != 1.0:
            hidden = hidden * change.strength
        y = y.add_(functional.linear(hidden, change.up.to(x)))
    return y


def inputs_of_parts(
    inputs: MotionInputs, layers: str, sizes: list[int], clips: int, height: int, width: int
) -> Iterator[MotionInputs]:
    """The inputs for each part of ``clips * height * width`` positions, cut into ``sizes``.

    Positions lie as the hidden states do: clip by clip, row by row. ``layers`` is how the names of the layers begin
    that will be computed; only their masks are laid out, as ``(positions, frames, 1)``.
    """
    used = {name: changes for name, changes in inputs.low_rank.items() if name.startswith(layers)}
    masks = {id(c.strength): c.strength for changes in used.values() for c in changes if _is_mask(c.strength)}
    if not masks:
        yield from (inputs for _ in sizes)
        return
    # One mask serves many layers, so each is resized once.
    parts = {key: _laid_out(mask, clips, height, width).split(sizes) for key, mask in masks.items()}
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


def _laid_out(mask: torch.Tensor, clips: int, height: int, width: int) -> torch.Tensor:
    """``(frames, 1, any, any)`` -> ``(clips * height * width, frames, 1)``."""
    mask = functional.interpolate(mask.float(), (height, width), mode="bilinear", align_corners=False)
    return mask.flatten(2).permute(2, 0, 1).repeat(clips, 1, 1)
