"""Noise that a camera moves over: coarse noise is that of one large picture, seen through the framings of a path; fine noise is fresh.

White noise of the large picture stays white noise where it is moved, turned, and scaled with the root of the area that it is spread
over. Each frame takes its low frequencies from there, at its own resolution, with the low-pass ``a (f)`` of ``noise.py``: a Gaussian,
which looks the same in all directions and is one at every scale. What comes in at the borders has not been seen before. The rest,
``1 - a (f)^2`` of the power, is the sampler's noise. So each frame by itself stays white noise of mean 0 and variance 1.
"""

import math

import torch
from torch.nn import functional

from ..noise.generator import seeded
from .camera import seen_places
from .keys import PathError
from .noise import CUT_OFF

SEED_OFFSET = 0xCA3
SPREAD = 1 / (2 * math.pi * CUT_OFF)  # standard deviation of the low-pass, in latent pixels
REACH = 3.6  # standard deviations
FINENESS = 2  # cells of the large picture along a latent pixel, at least; a Gaussian as narrow as SPREAD needs as many
MOST_CELLS = 1 << 24
PADDING = 4  # latent pixels: behind those, a and its images on the other side do not overlap


def seen(noise: torch.Tensor, framings: torch.Tensor, seed: int, strength: float = 1.0) -> torch.Tensor:
    """``noise (frames, channels, height, width)`` as a camera sees it through ``framings (frames, 4)`` (``MovingCamera.at``).

    ``strength`` 0 leaves it as it is; with 1 the low frequencies of all frames are those of one picture. Same shape, dtype and
    device. Raises PathError if the large picture would be too large.
    """
    if strength == 0.0:
        return noise
    generator = seeded(seed + SEED_OFFSET)
    moved = _coarse(noise.shape, framings, generator)
    *beside, height, width = noise.shape
    # with a border, as the Fourier transform takes opposite edges for neighbours, which those of the picture are not
    bordered = torch.randn(*beside, height + 2 * PADDING, width + 2 * PADDING, generator=generator)
    inside = (..., slice(PADDING, -PADDING), slice(PADDING, -PADDING))
    bordered[inside] = noise.float().cpu()
    down, across = (_power(size) for size in bordered.shape[-2:])
    rest = (1 - strength**2 * down[:, None] * across).clamp_min(0).sqrt()
    fine = torch.fft.ifft2(torch.fft.fft2(bordered) * rest).real[inside]
    return (strength * moved + fine).to(noise)


def _power(size: int) -> torch.Tensor:
    """Along one side, of the low frequencies as they are seen at latent pixels: with those beyond the highest folded back."""
    frequencies = torch.fft.fftfreq(size) + torch.arange(-2, 3)[:, None]
    return torch.exp(-(frequencies**2) / CUT_OFF**2).sum(0)


def _coarse(shape: torch.Size, framings: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The low frequencies of all frames, ``(frames, channels, height, width)``."""
    _, channels, height, width = shape
    zooms = framings[:, 2].double().exp()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x + 0.5 - width / 2, y + 0.5 - height / 2], -1).flatten(0, 1)
    places = seen_places(framings, pixels, width, height)
    margin = (REACH * SPREAD + 2) / float(zooms.min())
    low, high = places.amin((0, 1)) - margin, places.amax((0, 1)) + margin
    fineness = math.ceil(FINENESS * float(zooms.max()))
    across, down = ((high - low) * fineness).ceil().int().tolist()
    if across * down > MOST_CELLS:
        raise PathError(
            f"The camera sees {across / fineness / width:.1f} x {down / fineness / height:.1f} pictures on its way, and zooms up to "
            f"{float(zooms.max()):.3g}: too much for the size of this clip. Let it go less far, or zoom less."
        )
    cells = torch.randn(channels, down, across, generator=generator)
    levels = [(cells, float(fineness))]
    made = []
    for of_frame, zoom in zip(places, zooms.tolist(), strict=True):
        level = max(0, math.floor(math.log2(fineness / zoom / FINENESS)))
        while len(levels) <= level:  # four cells to one: white noise again, and there are less to add up
            cells, fine = levels[-1]
            levels.append((2 * functional.avg_pool2d(cells, 2), fine / 2))
        cells, fine = levels[level]
        made.append(_smoothed(cells, (of_frame - low) * fine - 0.5, fine / zoom).unflatten(-1, (height, width)))
    return torch.stack(made)


def _smoothed(cells: torch.Tensor, places: torch.Tensor, finer: float) -> torch.Tensor:
    """``cells (channels, down, across)`` through the low-pass at ``places (n, 2)``, counted in cells: ``(channels, n)``.

    ``finer``: how many cells lie along a latent pixel.
    """
    spread = SPREAD * finer
    reach = math.ceil(REACH * spread)
    steps = torch.arange(-reach, reach + 1)
    taps = places.round().long()[..., None] + steps  # (n, 2, taps)
    weights = torch.exp(-((taps - places[..., None]) ** 2) / (2 * spread**2)).float()
    weights = weights * (finer**0.5 / (spread * math.sqrt(2 * math.pi)))
    (columns, rows), (across, down) = taps.unbind(1), weights.unbind(1)
    total = cells.new_zeros(cells.shape[0], len(places))
    for tap in range(len(steps)):
        total += (cells[:, rows[:, tap, None], columns] * across).sum(-1) * down[:, tap]
    return total
