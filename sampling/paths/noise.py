"""Noise along a path: each object has one pattern of low frequencies that moves with its box, all else is fresh.

Qiu et al., "FreeTraj: Tuning-Free Trajectory Control in Video Diffusion Models" (arXiv 2406.16863): what moves
in the low frequencies of the initial noise moves in the clip, and high frequencies are drawn anew, as the same ones in all
frames show as artifacts. There frequencies are exchanged in the whole clip. Here it is done so that each frame by itself stays
white noise of variance 1, as the model was trained on; only what frames have in common changes:

* pattern and fresh noise are joined with ``a (f)`` and ``sqrt(1 - a (f)^2)`` at each frequency f,
* the pattern moves by the phase of its frequencies, also by parts of a latent pixel, which leaves its spectrum alone,
* inside and outside of a box are joined with ``sqrt(m)`` and ``sqrt(1 - m)``, where m is how far a place lies in the box.
"""

import math

import torch

from ..noise.generator import seeded
from .path import memberships

# How high the frequencies are that move, in cycles per latent pixel (half is the highest): where ``a`` is 0.61.
CUT_OFF = 0.25
# Added to the sampler's seed, for the noise that the sampler does not have.
SEED_OFFSET = 0x9A7


def along(noise: torch.Tensor, boxes: torch.Tensor, seed: int, strength: float = 1.0) -> torch.Tensor:
    """``noise (frames, channels, height, width)`` with the pattern of each object in its ``boxes (objects, frames, 4)``.

    ``strength`` 0 leaves it as it is, 1 gives all frames the same low frequencies in the box. Same shape, dtype and device.
    """
    if strength == 0.0:
        return noise
    *_, height, width = noise.shape
    generator = seeded(seed + SEED_OFFSET)
    shared = strength * _low_pass(height, width)
    fresh = (1 - shared**2).sqrt()
    made = noise.float().cpu()
    for of_object in boxes:
        pattern = torch.fft.fft2(torch.randn(made.shape[1:], generator=generator))
        others = torch.fft.fft2(torch.randn(made.shape, generator=generator))
        phases = _phases(of_object[:, :2] - 0.5, height, width)[:, None]
        moved = torch.fft.ifft2(pattern * phases * shared + others * fresh).real
        inside = memberships(of_object, height, width)[:, None]
        made = inside.sqrt() * moved + (1 - inside).sqrt() * made
    return made.to(noise)


def _frequencies(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In cycles per place: ``(height, 1)`` and ``(1, width)``."""
    return torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]


def _low_pass(height: int, width: int) -> torch.Tensor:
    y, x = _frequencies(height, width)
    return torch.exp(-(x**2 + y**2) / (2 * CUT_OFF**2))


def _phases(shifts: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What moves a picture by ``shifts (frames, 2)``, shares of its width and height: ``(frames, height, width)``, of size 1."""
    y, x = _frequencies(height, width)
    dx, dy = (shifts * torch.tensor([width, height])).unbind(-1)
    angles = 2 * math.pi * (_turns(y, dy[:, None, None]) + _turns(x, dx[:, None, None]))
    return torch.polar(torch.ones_like(angles), -angles)


def _turns(frequencies: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    # the highest frequency alternates from place to place: it can move by whole places only
    return frequencies * torch.where(frequencies.abs() == 0.5, shift.round(), shift)
