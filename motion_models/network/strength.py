"""Low-rank changes whose strength varies over the sampling run, from frame to frame, or over the picture."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

import torch

MOST_NUMBERS = 1 << 30  # of a mask over the frames: 4 GiB in float32
HOLD, LINEAR = "hold", "linear"


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
class VaryingLowRank:
    """Low-rank changes of a motion model: ``pairs`` maps a layer's name (see call.LowRanks) to ``(down, up)``.

    Their strength is the product of ``strength``, ``schedule`` and ``mask``. The mask ``(k, height, width)`` holds one
    picture for each frame of the clip (with ``height = width = 1`` just a number); its last one serves all frames
    that follow.
    """

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    strength: float = 1.0
    schedule: StrengthSchedule | None = None
    mask: torch.Tensor | None = None


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
