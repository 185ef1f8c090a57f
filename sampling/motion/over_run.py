"""Keyframes that follow a schedule of strengths over the sampling run."""

import math

from ...motion_models.network.strength import LINEAR, StrengthSchedule
from ..strength.multival import Multival, combined
from .applied import Keyframe

SCALE, EFFECT = "scale", "effect"
# How finely a ramp is cut into keyframes, which hold their strength: at most this far in percent behind the line.
RAMP = 1 / 200


def keyframes(over_run: StrengthSchedule | None, over_frames: Multival | None, acts_on: str) -> tuple[Keyframe, ...]:
    """Keyframes that give SCALE or EFFECT the strength of ``over_run`` (None: 1) times ``over_frames``.

    None is guaranteed a step, so that at each step that one is in force whose percent is reached.
    """
    percents = [0.0] if over_run is None else _percents(over_run)
    strengths = [1.0 if over_run is None else over_run.at(percent) for percent in percents]
    values = [combined(strength, over_frames) for strength in strengths]
    if acts_on == SCALE:
        return tuple(Keyframe(at, scale=value, guarantee_steps=0) for at, value in zip(percents, values, strict=True))
    return tuple(Keyframe(at, effect=value, guarantee_steps=0) for at, value in zip(percents, values, strict=True))


def _percents(schedule: StrengthSchedule) -> list[float]:
    """Where a keyframe has to begin: at the points, and in small steps between two points with a ramp between them."""
    found = {0.0, *(percent for percent, _ in schedule.points)}
    if schedule.interpolation == LINEAR:
        for (start, strength), (end, next_strength) in zip(schedule.points, schedule.points[1:], strict=False):
            if strength != next_strength:
                count = math.ceil((end - start) / RAMP)
                found |= {start + (end - start) * i / count for i in range(1, count)}
    return sorted(found)
