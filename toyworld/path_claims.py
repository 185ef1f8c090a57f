"""Follow Path on the toy world: whether shapes go where a path says, without training and with.

Paths are those of ``PATHS``, in turn with the captions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import measure, scenes
from .claim import Claim
from .prompts import TRAINED, Clip

FIRST_SEED = 960_000  # these are used for nothing else
# As users write them into Motion Path: two straight ways, an arc and a bend. The motion model was trained on straight ones.
PATHS = (
    "0: 0.25,0.5  15: 0.75,0.5",
    "0: 0.72,0.72  15: 0.28,0.28",
    "0: 0.22,0.65  3: 0.27,0.44  6: 0.41,0.32  9: 0.59,0.32  12: 0.73,0.44  15: 0.78,0.65",
    "0: 0.25,0.25  4: 0.48,0.29  8: 0.64,0.39  12: 0.73,0.57  15: 0.75,0.75",
)
END = 0.15  # of the picture's side
Sample = Callable[[list[Clip]], list[np.ndarray]]


@dataclass(frozen=True)
class Measured:
    """Of clips: errors of direction ``(clips,)`` in degrees, distances from the path ``(clips, frames)`` in pixels, content in %."""

    errors: np.ndarray
    away: np.ndarray
    content: float

    def within(self, degrees: float) -> float:
        return 100 * float((self.errors < degrees).mean())

    @property
    def ends(self) -> float:
        """%"""
        return 100 * float((self.away[:, -1] < END * scenes.SIZE).mean())

    @property
    def distance(self) -> float:
        return float(np.nanmean(self.away))


def places(path: str) -> np.ndarray:
    """Where a path lies in each frame, in pixels ``(frames, 2)``: straight from key to key."""
    keys = [key.split(": ") for key in path.split("  ")]
    frames = [int(frame) for frame, _ in keys]
    numbers = np.array([[float(x) for x in place.split(",")] for _, place in keys]) * scenes.SIZE
    return np.stack([np.interp(np.arange(scenes.FRAMES), frames, axis) for axis in numbers.T], axis=1)


def direction(path: str) -> float:
    """Of its displacement as ``measure`` finds it, in radians, 0 right, pi/2 up."""
    x, y = measure.Track(places(path), np.ones(scenes.FRAMES)).displacement
    return float(np.arctan2(-y, x))


def path_claims(sample: Sample, count: int) -> list[Claim]:
    """Without training, as the node has it; and with the MotionLoRA that was trained along paths, whose noise goes along as well."""
    captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(count)]
    paths = [PATHS[i // len(scenes.CAPTIONS) % len(PATHS)] for i in range(count)]
    plain = [Clip(caption, FIRST_SEED + i) for i, caption in enumerate(captions)]
    follow = [replace(clip, path=path) for clip, path in zip(plain, paths, strict=True)]

    def measured(clips: list[Clip]) -> Measured:
        frames = sample(clips)
        tracks = map(measure.follow, frames)
        errors = [180.0 if t is None else t.angle_to(direction(p)) for t, p in zip(tracks, paths, strict=True)]
        away = np.array([measure.distances(f, places(p)) for f, p in zip(frames, paths, strict=True)])
        content = [measure.content_matches(f, c.caption) for f, c in zip(frames, clips, strict=True)]
        return Measured(np.array(errors), away, 100 * float(np.mean(content)))

    without = measured(plain)
    end = f"clips that end within {100 * END:.0f} % of the picture from its end, %"
    found = []
    for name, clips, degrees, within, ends in (
        ("Follow Path", follow, 45, (60, 80), (None, None)),
        ("trained for it", [replace(clip, **TRAINED) for clip in follow], 30, (75, 90), (60, 80)),
    ):
        those = measured(clips)
        lost = without.content - those.content
        claim = "" if found else "shapes follow a path"
        found += [
            Claim(claim, f"{name}: clips within {degrees} degrees of the path, %", those.within(degrees), *within),
            Claim("", "the same clips without it, %", without.within(degrees)),
            Claim("", f"{name}: mean error of direction, degrees", float(those.errors.mean()), more=False),
            Claim("", f"{name}: {end}", those.ends, *ends),
            Claim("", f"{name}: distance from the path, pixels", those.distance, more=False),
            Claim("", f"{name}: frames of the right shape and colour, points below", lost, 8, 3, more=False),
        ]
    return [
        *found,
        Claim("", f"without it: {end}", without.ends),
        Claim("", "without it: distance from the path, pixels", without.distance, more=False),
    ]
