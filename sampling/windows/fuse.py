"""Fuse weights: how much each frame of a window counts where windows overlap."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...host.told import Told
from .schedules import Window

RELATIVE = "relative"
EXPERIMENTAL = "\U0001f52c"  # the mark of names that are none of the established ones
# The lowest weight of the ramps of overlap-linear: never zero, as a frame may have no other window.
LEAST = 1e-37
STEEP = 4.0  # sigma above which the sigma-dependent weights no longer change


class UnknownFuseMethod(Told, ValueError):
    """A name that is no fuse method."""


@dataclass(frozen=True)
class FuseContext:
    """What weights may depend on: the clip's length, the windows' overlap, the noise level, and a source of chance."""

    frames: int
    overlap: int = 0
    sigma: float = 0.0
    generator: torch.Generator | None = None


def fuse_weights(method: str, window: Window, context: FuseContext) -> torch.Tensor:
    """Weights ``(len(window),)``, float32, all positive and finite. Raises UnknownFuseMethod."""
    name = method.removeprefix(EXPERIMENTAL)
    if name not in METHODS:
        raise UnknownFuseMethod(f"There is no fuse method '{method}'. Choose one of {', '.join(NAMES)}.")
    return METHODS[name](window, context)


def depends_on_sigma(method: str) -> bool:
    return "sigma" in method


def depends_on_chance(method: str) -> bool:
    return METHODS.get(method.removeprefix(EXPERIMENTAL)) is _random


def _middle(length: int) -> int:
    """The height of the pyramids: half of the length, rounded up."""
    return (length + 1) // 2


def _flat(window: Window, context: FuseContext) -> torch.Tensor:
    return torch.ones(len(window))


def _pyramid(window: Window, context: FuseContext) -> torch.Tensor:
    """1, 2, 3, … up to the middle and down again."""
    up = torch.arange(1, len(window) + 1, dtype=torch.float32)
    return torch.minimum(up, up.flip(0))


def _overlap_linear(window: Window, context: FuseContext) -> torch.Tensor:
    """1, with a ramp over the overlap at each end that is not an end of the clip."""
    weights = torch.ones(len(window))
    ramp = min(context.overlap, len(window))
    if ramp == 0:
        return weights
    if min(window) > 0:
        weights[:ramp] = torch.linspace(LEAST, 1, context.overlap)[:ramp]
    if max(window) < context.frames - 1:
        # not the first ramp turned round: of a single frame each begins with its first weight
        weights[-ramp:] = torch.linspace(1, LEAST, context.overlap)[-ramp:]
    return weights


def _delayed_reverse_sawtooth(window: Window, context: FuseContext) -> torch.Tensor:
    """Almost nothing in the first half, then from the highest weight down to 1."""
    length, middle = len(window), _middle(len(window))
    weights = torch.full((length,), 0.01)
    weights[-middle:] = torch.arange(middle, 0, -1, dtype=torch.float32)
    if length % 2 == 0:
        weights[length - middle - 1] = middle
    return weights


def _steepness(context: FuseContext) -> float:
    """From 0 at the end of sampling to 1 at high noise."""
    return min(STEEP, context.sigma) / STEEP


def _pyramid_to_spike(window: Window, pyramid: float) -> torch.Tensor:
    """Between a pyramid (1) and its top alone (0)."""
    heights = _pyramid(window, FuseContext(len(window)))
    top = heights.max()
    spike = torch.where(heights == top, top, -top)
    return (pyramid * heights + (1 - pyramid) * spike).clamp(0.001, float(top))


def _pyramid_sigma(window: Window, context: FuseContext) -> torch.Tensor:
    return _pyramid_to_spike(window, _steepness(context))


def _pyramid_sigma_inverse(window: Window, context: FuseContext) -> torch.Tensor:
    return _pyramid_to_spike(window, 1 - _steepness(context))


def _gaussian(window: Window, width: float) -> torch.Tensor:
    length = len(window)
    x = torch.linspace(-(length - 1) / 2, (length - 1) / 2, length)
    bell = torch.exp(-0.5 * (x / width) ** 2)
    # far from the centre of a long window the bell is zero in float32
    return (bell * (_middle(length) / torch.linalg.vector_norm(bell))).clamp_min(LEAST)


def _gauss_sigma(window: Window, context: FuseContext) -> torch.Tensor:
    return _gaussian(window, 1 + 8 * _steepness(context))


def _gauss_sigma_inverse(window: Window, context: FuseContext) -> torch.Tensor:
    return _gaussian(window, 1 + 8 * (1 - _steepness(context)))


def _random(window: Window, context: FuseContext) -> torch.Tensor:
    chance = torch.rand(len(window), generator=context.generator)
    return chance * _middle(len(window)) + 0.001


METHODS: dict[str, Callable[[Window, FuseContext], torch.Tensor]] = {
    "pyramid": _pyramid,
    # of a view; over windows it is no set of weights but a running mean (relative_bias)
    RELATIVE: _pyramid,
    "flat": _flat,
    "overlap-linear": _overlap_linear,
    "delayed reverse sawtooth": _delayed_reverse_sawtooth,
    "pyramid-sigma": _pyramid_sigma,
    "pyramid-sigma inverse": _pyramid_sigma_inverse,
    "gauss-sigma": _gauss_sigma,
    "gauss-sigma inverse": _gauss_sigma_inverse,
    "random": _random,
}
ESTABLISHED = ("pyramid", RELATIVE, "flat", "overlap-linear")
# As the nodes offer them: the experimental ones are marked.
NAMES = tuple(name if name in ESTABLISHED else f"{EXPERIMENTAL}{name}" for name in METHODS)


def relative_bias(window: Window) -> torch.Tensor:
    """How much each frame of a window pulls the running mean of the ``relative`` method, ``(len(window),)``.

    Highest for frames in the middle of the window; every prediction of a frame is then blended into the mean of those
    before it by its share of their sum.
    """
    first, last = window[0], window[-1]
    index = torch.tensor(window, dtype=torch.float64)
    bias = 1 - (index - (first + last) / 2).abs() / ((last - first + 0.01) / 2)
    return bias.clamp_min(0.01).float()
