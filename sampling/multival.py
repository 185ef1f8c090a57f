"""MULTIVAL: a number, or a mask ``(k, height, width)`` with one picture per frame, wherever a strength may vary.

A float, or a float32 tensor on the CPU whose values are not clamped. None means "not given". Masks shorter than the
clip repeat their last picture; longer ones are cut.
"""

import math

import comfy.utils
import torch
from torch.nn import functional

from ..motion_models.strength import for_frames

Multival = float | torch.Tensor


def resized(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``(…, h, w)`` -> ``(k, 1, height, width)``, bilinear."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    return functional.interpolate(mask, (height, width), mode="bilinear", align_corners=False)


def combined(first: Multival | None, second: Multival | None) -> Multival:
    """The product; what is not given counts as 1.

    Two masks meet at the size of the larger one, to which the other is cropped and resized.
    """
    if first is None or second is None:
        return 1.0 if first is second else (second if first is None else first)
    if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
        return first * second
    smaller, larger = (first, second) if second[0].numel() > first[0].numel() else (second, first)
    height, width = larger.shape[1:]
    smaller = comfy.utils.common_upscale(smaller.unsqueeze(1), width, height, "bilinear", "center").squeeze(1)
    frames = max(len(first), len(second))
    return for_frames(larger, frames) * for_frames(smaller, frames)


def is_number(value: Multival | None, number: float) -> bool:
    """Whether ``value`` is a number, and close to ``number``."""
    return not isinstance(value, (torch.Tensor, type(None))) and math.isclose(value, number, abs_tol=1e-9)
