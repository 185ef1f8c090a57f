"""Curves between two numbers, as the interpolation nodes offer them."""

import math

import torch

METHODS = ("linear", "ease_in", "ease_out", "ease_in_out")


def interpolated(start: float, end: float, count: int, method: str) -> torch.Tensor:
    """``count`` numbers from ``start`` to ``end``, float32."""
    if method == "linear":
        return torch.linspace(start, end, count)
    t = torch.linspace(0, 1, count)
    eased = {"ease_in": t**2, "ease_out": 1 - (1 - t) ** 2, "ease_in_out": (1 - torch.cos(math.pi * t)) / 2}
    return (end - start) * eased[method] + start
