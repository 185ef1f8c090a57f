"""A clip that begins as one picture which moves evenly through the frames.

Khachatryan et al., "Text2Video-Zero: Text-to-Image Diffusion Models are Zero-Shot Video Generators" (arXiv 2303.13439),
section 3.2 and algorithm 1:

1. the first frame is denoised from T to T' = T - delta t, by DDIM;
2. frame k is that latent moved by ``delta_k = lambda (k - 1) delta``: the whole scene, and more from frame to frame;
3. noise takes the moved latents from T' back to T (DDPM forward), of each frame its own: the longer the way, the less is
   left of what frames have in common. The first frame begins with its own noise.

In the host's scale, where noise grows with sigma, a DDIM step is a step of Euler's method, and the noise of 3. has the
variance ``sigma_T^2 - sigma_T'^2``.
"""

from collections.abc import Callable
from itertools import pairwise

import torch

STEPS = 3  # of DDIM from T to T': 20 timesteps each for the paper's 60
TIMESTEPS = 1000
LATENT_PIXEL = 8  # pixels of the picture


def moved(picture: torch.Tensor, x: int, y: int) -> torch.Tensor:
    """``picture (..., height, width)`` moved by ``x`` to the right and ``y`` down; what comes in is mirrored at the edge.

    Whole latent pixels only: values between them would be means, and the noise in them too weak.
    """
    rows, columns = (_mirrored(size, by) for size, by in zip(picture.shape[-2:], (y, x), strict=True))
    return picture[..., rows, :][..., columns]


def _mirrored(size: int, by: int) -> list[int]:
    """Where each of ``size`` places gets its value from: the places before it, mirrored without repeating the edge."""
    period = max(1, 2 * (size - 1))
    places = [(i - by) % period for i in range(size)]
    return [min(place, period - place) if size > 1 else 0 for place in places]


def motion_of(frame: int, x: float, y: float) -> tuple[int, int]:
    """How far frame number ``frame`` (from 0) has moved, in latent pixels; ``x``, ``y``: pixels of the picture a frame."""
    return round(frame * x / LATENT_PIXEL), round(frame * y / LATENT_PIXEL)


def levels(model_sampling, sigma: torch.Tensor, part: float) -> list[float]:
    """Noise levels from ``sigma`` at T down to T - ``part`` of all timesteps, ``STEPS + 1`` of them; of no part T alone."""
    if part == 0.0:
        return [float(sigma)]
    start = float(model_sampling.timestep(sigma))
    # not below the lowest timestep
    steps = [max(0.0, start - part * TIMESTEPS * i / STEPS) for i in range(1, STEPS + 1)]
    return [float(sigma), *(float(model_sampling.sigma(torch.tensor(step))) for step in steps)]


def warped(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    noise: torch.Tensor,
    sigmas: list[float],
    x: float,
    y: float,
) -> torch.Tensor:
    """What the frames begin with at ``sigmas[0]``, in place of ``start (frames, channels, height, width)``.

    ``denoise(clip, sigma (frames,))`` gives a clip; its frames all show the first one here, so that whatever belongs to a
    clip (ControlNets, windows, motion models) fits. ``noise`` of variance 1 is what step 3 adds.
    """
    clip = start[:1].expand_as(start).clone()
    for sigma, following in pairwise(sigmas):
        denoised = denoise(clip, torch.full((len(clip),), sigma, device=clip.device))
        clip = clip + (clip - denoised) * ((following - sigma) / sigma)
    added = max(0.0, sigmas[0] ** 2 - sigmas[-1] ** 2) ** 0.5
    frames = [start[0]]
    frames += [moved(clip[0], *motion_of(k, x, y)) + added * noise[k] for k in range(1, len(start))]
    return torch.stack(frames)
