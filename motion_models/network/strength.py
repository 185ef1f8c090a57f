"""How strongly something acts: a number, or a mask with a picture for each frame; and how it varies over a run.

Nodes hand on plain numbers and tensors; for a run they become a ``Strength``, which follows the windows of the clip and
gives itself the size of the layer that asks.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from operator import itemgetter

import torch
from torch.nn import functional

MOST_NUMBERS = 1 << 30  # of a mask over the frames: 4 GiB in float32
HOLD, LINEAR = "hold", "linear"


def check_size(frames: int, size: torch.Size) -> None:
    """Raise ValueError if a mask of ``size`` for each of ``frames`` frames holds more than MOST_NUMBERS."""
    if frames * size.numel() > MOST_NUMBERS:
        raise ValueError(
            f"A mask of {' x '.join(map(str, size))} for each of {frames} frames takes {frames * size.numel() / (1 << 28):.1f} "
            f"GiB; at most {MOST_NUMBERS >> 28} GiB are possible. Use a smaller mask, or fewer frames and numbers."
        )


def for_frames(values: torch.Tensor, frames: int) -> torch.Tensor:
    """``(k, …)`` -> ``(frames, …)``: what is too long is cut, the last entry repeated. Raises ValueError; see check_size."""
    check_size(frames, values.shape[1:])
    return torch.cat([values[:frames], values[-1:].expand(max(0, frames - len(values)), *values.shape[1:])])


@dataclass(frozen=True, eq=False)
class FrameMask:
    """A strength that differs from frame to frame or from place to place, in a run.

    ``pictures (k, height, width)`` are those of the clip of ``frames`` frames; the last one serves all frames that
    follow. A list with a number for each frame is one of 1 x 1 pictures. ``window`` holds the frames that are asked for
    (None: all), ``factor`` multiplies them. A run asks for few sizes many times, so each is made once, and all that are
    derived of one mask share them.
    """

    pictures: torch.Tensor
    frames: int
    window: list[int] | None = None
    factor: float = 1.0
    made: dict = field(default_factory=dict)

    def in_window(self, window: list[int] | None) -> FrameMask:
        """The same for the frames ``window`` of the clip."""
        return replace(self, window=window)

    def times(self, factor: float) -> FrameMask:
        return replace(self, factor=self.factor * factor)

    def at(self, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """``(frames asked for, 1, height, width)``, resized bilinearly, in the dtype and on the device of ``like``."""
        key = (height, width, like.device)
        if key not in self.made:
            mask = self.pictures.float().unsqueeze(1)
            mask = functional.interpolate(mask, (height, width), mode="bilinear", align_corners=False)
            self.made[key] = for_frames(mask, self.frames).to(like.device)
        mask = self.made[key] if self.window is None else self.made[key][self.window]
        return (mask if self.factor == 1.0 else mask * self.factor).to(like.dtype)


Strength = float | FrameMask


def strength_of(value: float | torch.Tensor, frames: int) -> Strength:
    """What a node hands on, a number or a mask ``(k, height, width)``, for a clip of ``frames`` frames."""
    return FrameMask(value, frames) if isinstance(value, torch.Tensor) else value


def times(value: Strength | None, factor: float) -> Strength:
    """``value`` (None: 1) times ``factor``."""
    return factor if value is None else value.times(factor) if isinstance(value, FrameMask) else value * factor


def strength_at(value: Strength, height: int, width: int, like: torch.Tensor) -> float | torch.Tensor:
    """The number, or the mask at that size: ``(frames asked for, 1, height, width)``."""
    return value.at(height, width, like) if isinstance(value, FrameMask) else value


@dataclass(frozen=True)
class StrengthSchedule:
    """Strength over the sampling run, as ``(percent, strength)`` points in ascending order of percent.

    Percents are of the sampling schedule: 0 is pure noise, 1 the finished clip. Between two points the strength is
    that of the earlier (``hold``) or on the straight line (``linear``); outside it is that of the nearest point.
    """

    points: tuple[tuple[float, float], ...]
    interpolation: str = HOLD

    def __post_init__(self):
        percents = [percent for percent, _ in self.points]
        if not percents or sorted(set(percents)) != percents:
            raise ValueError("A schedule needs at least one point, and its percents must ascend.")
        if self.interpolation not in (HOLD, LINEAR):
            raise ValueError(f"Interpolation is '{HOLD}' or '{LINEAR}', not '{self.interpolation}'.")

    def at(self, percent: float) -> float:
        after = bisect_right(self.points, percent, key=itemgetter(0))
        p, strength = self.points[max(after - 1, 0)]
        if self.interpolation == HOLD or after in (0, len(self.points)):
            return strength
        next_p, next_strength = self.points[after]
        return strength + (next_strength - strength) * (percent - p) / (next_p - p)


@dataclass(frozen=True, eq=False)
class VaryingStrength:
    """What a user says of the strength of something in a run: the product of ``number``, ``schedule`` and ``mask``.

    The mask ``(k, height, width)`` holds one picture for each frame of the clip (with ``height = width = 1`` just a
    number); its last one serves all frames that follow.
    """

    number: float = 1.0
    schedule: StrengthSchedule | None = None
    mask: torch.Tensor | None = None

    @property
    def varies(self) -> bool:
        return self.schedule is not None or self.mask is not None
