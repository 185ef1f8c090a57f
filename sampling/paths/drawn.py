"""The noise of a clip whose things, or whose camera, move along a path: what sampling begins with, and what training shows."""

import torch

from .camera_noise import seen
from .noise import along
from .path import MotionPath


def noise_along(
    noise: torch.Tensor, path: MotionPath, seed: int, strength: float = 1.0, start: int = 0
) -> torch.Tensor:
    """``noise (frames, channels, height, width)`` of the frames of ``path`` from ``start`` on: each by itself white noise as before.

    ``strength``: how much of the low frequencies in boxes moves along, 0..1; that of a camera is its own.
    """
    until = start + len(noise)
    if path.camera is not None:
        noise = seen(noise, path.camera.at(until)[start:], seed, path.camera.noise)
    return along(noise, path.at(until)[:, start:], seed, strength)
