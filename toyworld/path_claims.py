"""Follow Path on the toy world: whether shapes go where a path says. Paths are those of ``PATHS``, in turn with the captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import measure, scenes
from .claim import Claim
from .prompts import Clip

FIRST_SEED = 960_000  # these are used for nothing else
# As users write them into Motion Path: two straight ways, an arc and a bend. The motion model was trained on straight ones.
PATHS = (
    "0: 0.25,0.5  15: 0.75,0.5",
    "0: 0.72,0.72  15: 0.28,0.28",
    "0: 0.22,0.65  3: 0.27,0.44  6: 0.41,0.32  9: 0.59,0.32  12: 0.73,0.44  15: 0.78,0.65",
    "0: 0.25,0.25  4: 0.48,0.29  8: 0.64,0.39  12: 0.73,0.57  15: 0.75,0.75",
)
WITHIN, END = 45, 0.15  # degrees; of the picture's side
Sample = Callable[[list[Clip]], list[np.ndarray]]


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


def distances(frames: np.ndarray, path: str) -> np.ndarray:
    """How far the shape is from the path in each frame, in pixels; NaN where it is not seen."""
    seen = [measure.look(frame) for frame in frames]
    found = np.array([(np.nan, np.nan) if one is None else (one.x, one.y) for one in seen])
    return np.linalg.norm(found - places(path), axis=1)


def path_claims(sample: Sample, count: int) -> list[Claim]:
    """Without training: noise along the path and attention that keeps to its boxes, as the node has them."""
    captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(count)]
    paths = [PATHS[i // len(scenes.CAPTIONS) % len(PATHS)] for i in range(count)]
    plain = [Clip(caption, FIRST_SEED + i) for i, caption in enumerate(captions)]
    follow = [replace(clip, path=path) for clip, path in zip(plain, paths, strict=True)]

    def measured(clips: list[Clip]) -> tuple[float, float, float, float]:
        """Within the angle, %; mean distance, pixels; ends there, %; content, %."""
        frames = sample(clips)
        tracks = map(measure.follow, frames)
        errors = [180.0 if t is None else t.angle_to(direction(p)) for t, p in zip(tracks, paths, strict=True)]
        away = [distances(f, p) for f, p in zip(frames, paths, strict=True)]
        ends = [one[-1] < END * scenes.SIZE for one in away]
        content = [measure.content_matches(f, c.caption) for f, c in zip(frames, clips, strict=True)]
        within = float(np.mean(np.array(errors) < WITHIN))
        return 100 * within, float(np.nanmean(away)), 100 * float(np.mean(ends)), 100 * float(np.mean(content))

    within, away, ends, content = measured(follow)
    by_chance, plain_away, plain_ends, plain_content = measured(plain)
    return [
        Claim("shapes follow a path", f"Follow Path: clips within {WITHIN} degrees of the path, %", within, 60, 80),
        Claim("", "the same clips without it, %", by_chance),
        Claim(
            "",
            "Follow Path: frames of the right shape and colour, points below",
            plain_content - content,
            8,
            3,
            more=False,
        ),
        Claim("", "Follow Path: distance from the path, pixels", away, more=False),
        Claim("", "the same without it", plain_away, more=False),
        Claim("", f"Follow Path: clips that end within {100 * END:.0f} % of the picture from its end, %", ends),
        Claim("", "the same without it", plain_ends),
    ]
