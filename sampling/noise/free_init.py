"""FreeInit: start again from the low frequencies of a finished clip and the high ones of new noise.

Wu et al., "FreeInit: Bridging Initialization Gap in Video Diffusion Models" (arXiv 2312.07537), section 4.
"""

from collections.abc import Callable, Sequence

import torch

Shape = Sequence[int]  # frames, channels, height, width
AXES = (0, 2, 3)


def _squared_distance(shape: Shape, d_s: float, d_t: float) -> torch.Tensor:
    """``(frames, 1, height, width)``: from the centre of the shifted spectrum; time is stretched by ``d_s / d_t``."""
    t, y, x = (2 * torch.arange(shape[axis], dtype=torch.float64) / shape[axis] - 1 for axis in AXES)
    return ((d_s / d_t) * t).view(-1, 1, 1, 1) ** 2 + y.view(1, 1, -1, 1) ** 2 + x.view(1, 1, 1, -1) ** 2


def _gaussian(shape: Shape, d_s: float, d_t: float, n: int) -> torch.Tensor:
    return torch.exp(-_squared_distance(shape, d_s, d_t) / (2 * d_s**2))


def _butterworth(shape: Shape, d_s: float, d_t: float, n: int) -> torch.Tensor:
    return 1 / (1 + (_squared_distance(shape, d_s, d_t) / d_s**2) ** n)


def _ideal(shape: Shape, d_s: float, d_t: float, n: int) -> torch.Tensor:
    return (_squared_distance(shape, d_s, d_t) <= 2 * d_s).double()


def _box(shape: Shape, d_s: float, d_t: float, n: int) -> torch.Tensor:
    def around_middle(size: int, radius: int) -> slice:
        return slice(max(0, size // 2 - radius), size // 2 + radius)

    frames, _, height, width = shape
    # one radius for both sides of the picture, reckoned from its height
    radius = round((height // 2) * d_s)
    passed = torch.zeros(frames, 1, height, width, dtype=torch.float64)
    passed[
        around_middle(frames, round((frames // 2) * d_t)),
        :,
        around_middle(height, radius),
        around_middle(width, radius),
    ] = 1
    return passed


FILTERS: dict[str, Callable[[Shape, float, float, int], torch.Tensor]] = {
    "gaussian": _gaussian,
    "butterworth": _butterworth,
    "ideal": _ideal,
    "box": _box,
}


def low_pass_filter(name: str, shape: Shape, d_s: float, d_t: float, n: int = 4) -> torch.Tensor:
    """How much of each frequency passes, ``(frames, 1, height, width)``, float32, zero frequency in the middle.

    ``d_s`` and ``d_t`` are the normalised stop frequencies in space and time, ``n`` the order of the Butterworth filter.
    """
    if d_s == 0 or d_t == 0:
        return torch.zeros(shape[0], 1, *shape[2:])
    return FILTERS[name](shape, d_s, d_t, n).float()


def mixed_frequencies(low: torch.Tensor, high: torch.Tensor, low_pass: torch.Tensor) -> torch.Tensor:
    """The low frequencies of ``low`` with the high ones of ``high``, all ``(frames, channels, height, width)``."""

    def spectrum(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fftshift(torch.fft.fftn(x, dim=AXES), dim=AXES)

    mixed = spectrum(low) * low_pass + spectrum(high) * (1 - low_pass)
    return torch.fft.ifftn(torch.fft.ifftshift(mixed, dim=AXES), dim=AXES).real
