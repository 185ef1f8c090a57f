"""MULTIVAL: a number, or a mask ``(k, height, width)`` with one picture per frame, wherever a strength may vary.

A float, or a float32 tensor on the CPU whose values are not clamped. None means "not given". Masks shorter than the
clip repeat their last picture; longer ones are cut.
"""

import math

import comfy.utils
import torch

from ...motion_models.files.adjust import stretched
from ...motion_models.network.strength import check_size, for_frames, strength_at, strength_of

Multival = float | torch.Tensor


def pictures(mask: torch.Tensor) -> torch.Tensor:
    """A MASK as any pack may give it, ``(…, height, width)`` -> ``(k, height, width)``."""
    return mask.reshape(-1, *mask.shape[-2:])


def combined(first: Multival | None, second: Multival | None) -> Multival:
    """The product; what is not given counts as 1.

    Two masks meet at the size of the larger one, to which the other is cropped and resized.
    """
    if first is None:
        return 1.0 if second is None else second
    if second is None:
        return first
    if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
        return first * second
    smaller, larger = (first, second) if second[0].numel() > first[0].numel() else (second, first)
    height, width = larger.shape[1:]
    frames = max(len(first), len(second))
    check_size(frames, larger.shape[1:])
    smaller = comfy.utils.common_upscale(smaller.unsqueeze(1), width, height, "bilinear", "center").squeeze(1)
    return for_frames(larger, frames) * for_frames(smaller, frames)


def for_latents(value: Multival, latents: torch.Tensor) -> float | torch.Tensor:
    """A mask with one picture per frame, ``(frames, 1, height, width)``, as the latents are; numbers stay."""
    return strength_at(strength_of(value, len(latents)), *latents.shape[-2:], like=latents)


def is_number(value: Multival | None, number: float) -> bool:
    """Whether ``value`` is a number, and close to ``number``."""
    return not isinstance(value, (torch.Tensor, type(None))) and math.isclose(value, number, abs_tol=1e-9)


def of_numbers(values: float | list[float], mask: torch.Tensor | None = None) -> Multival:
    """A number, or a list with one for each frame; times ``mask`` if there is one."""
    mask = None if mask is None else pictures(mask)
    if not isinstance(values, (list, tuple)):
        return values if mask is None else mask * values
    per_frame = _per_frame(values)
    if mask is None:
        return per_frame
    frames = max(len(mask), len(per_frame))
    return for_frames(mask, frames) * for_frames(per_frame, frames)


def scaled_mask(mask: torch.Tensor, low: float | list[float], high: float | list[float], relative: bool) -> Multival:
    """``mask`` brought from 0..1 to ``low``..``high``; ``relative``: from its own smallest and largest value."""
    mask = pictures(mask)
    ends = [_per_frame(value if isinstance(value, (list, tuple)) else [value]) for value in (low, high)]
    frames = max(map(len, (mask, *ends)))
    mask, lowest, highest = (for_frames(value, frames) for value in (mask, *ends))
    return stretched(mask, lowest, highest) if relative else mask * (highest - lowest) + lowest


def as_mask(value: Multival) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.full((1, 1, 1), float(value))


def _per_frame(values: list[float]) -> torch.Tensor:
    if not values:
        raise ValueError("A list of numbers is empty. Connect one with a number for each frame.")
    return torch.tensor([float(value) for value in values]).view(-1, 1, 1)
