"""What is to be seen in landscapes, read back from the pixels, and how well the motion module holds them together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from . import landscapes, measure
from .claim import Claim
from .prompts import LANDSCAPE_FILE, PAN_LEFT, ZOOM_IN, Clip, landscape

FIRST_SEED = 990_000  # these are used for nothing else
# The ground is pale, shadow and outline are grey.
CHROMA = 0.42
FASTEST = 5  # pixels a frame; patterns repeat after 16
SMALLEST = 60  # pixels of something that counts as a shape
# Area over that of the convex hull: which shape is nearest.
SOLIDITY = {"star": 0.64, "square": 0.93, "moon": 0.53}
Sample = Callable[[list[Clip]], list[np.ndarray]]


def shape_in(frame: np.ndarray) -> np.ndarray | None:
    """Where the shape is in a picture, ``(height, width)``; None if there is none."""
    regions, count = ndimage.label(np.ptp(frame, axis=-1) > CHROMA)
    if not count:
        return None
    sizes = ndimage.sum(regions > 0, regions, range(1, count + 1))
    return regions == 1 + np.argmax(sizes) if sizes.max() >= SMALLEST else None


def seen(frame: np.ndarray) -> str:
    """Colour and shape, such as "red star"; "" if there is none."""
    inside = shape_in(frame)
    if inside is None:
        return ""
    colour = np.median(frame[inside], axis=0)
    nearest = min(landscapes.COLOURS, key=lambda name: float(np.linalg.norm(colour - landscapes.COLOURS[name])))
    solidity = inside.sum() / ConvexHull(_corners(inside)).volume  # of a hull in a plane: its area
    return f"{nearest} {min(SOLIDITY, key=lambda shape: abs(solidity - SOLIDITY[shape]))}"


def _corners(inside: np.ndarray) -> np.ndarray:
    places = np.argwhere(inside)
    return np.concatenate([places + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])


def follow(frames: np.ndarray) -> measure.Track | None:
    """The shape through a clip; None unless it is seen in three frames of four."""
    found = [inside for inside in map(shape_in, frames) if inside is not None]
    if len(found) < 0.75 * len(frames):
        return None
    places = np.array([ndimage.center_of_mass(inside)[::-1] for inside in found]) + 0.5
    # with its outline, which is as wide whatever the zoom
    whole = [ndimage.binary_dilation(inside, iterations=2) for inside in found]
    return measure.Track(places, np.array([float(inside.sum()) for inside in whole]))


def ground_displacement(frames: np.ndarray) -> np.ndarray:
    """How far the ground goes over a clip, x and y in pixels: the shifts from frame to frame, added up."""
    seen_ground = [_ground(frame) for frame in frames]
    return np.sum([_shift(*one, *other) for one, other in pairwise(seen_ground)], axis=0)


def _ground(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The brightness of a picture, and where there is nothing but ground: away from the shape, its outline and its shadow."""
    inside = shape_in(frame)
    covered = np.zeros(frame.shape[:2], bool) if inside is None else ndimage.binary_dilation(inside, iterations=10)
    return frame.mean(-1), ~covered


def _shift(one: np.ndarray, of_one: np.ndarray, other: np.ndarray, of_other: np.ndarray) -> tuple[float, float]:
    """How far pictures are shifted from one to the other, x and y, where both are ground: of all ways the one that fits best."""
    far = FASTEST + 1
    inner = (slice(far, -far), slice(far, -far))
    error = np.empty((2 * far + 1, 2 * far + 1))
    for dy in range(-far, far + 1):
        for dx in range(-far, far + 1):
            both = (of_one & np.roll(of_other, (-dy, -dx), (0, 1)))[inner]
            apart = (one - np.roll(other, (-dy, -dx), (0, 1)))[inner]
            error[dy + far, dx + far] = np.mean(apart[both] ** 2)
    y, x = np.unravel_index(np.argmin(error[1:-1, 1:-1]), (2 * far - 1, 2 * far - 1))
    y, x = y + 1, x + 1
    return x - far + _lowest(error[y, x - 1 : x + 2]), y - far + _lowest(error[y - 1 : y + 2, x])


def _lowest(three: np.ndarray) -> float:
    """Where the parabola through three neighbours is lowest, from the middle one."""
    before, at, after = three
    curve = before - 2 * at + after
    return 0.0 if curve <= 0 else float(0.5 * (before - after) / curve)


def landscape_claims(sample: Sample, count: int) -> list[Claim]:
    """Whether frames of ``count`` clips cohere, beside those of the still model: the shape, and the ground under it."""
    captions = [landscapes.CAPTIONS[5 * i % len(landscapes.CAPTIONS)] for i in range(count)]

    def of(motion: str | None, *loras: str) -> list[np.ndarray]:
        return sample([landscape(caption, FIRST_SEED + i, motion, loras=loras) for i, caption in enumerate(captions)])

    def content(clips: list[np.ndarray]) -> float:
        pairs = zip(clips, captions, strict=True)
        right = [seen(frame) == " ".join(caption.split()[1:3]) for clip, caption in pairs for frame in clip]
        return 100 * float(np.mean(right))

    def jump(clips: list[np.ndarray]) -> float:
        return float(np.mean([track.jump for track in map(follow, clips) if track is not None]))

    def change(clips: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(np.diff(frames, axis=0)).mean() for frames in clips]))

    moving, stills = of(LANDSCAPE_FILE), of(None)
    followed = 100 * float(np.mean([follow(frames) is not None for frames in moving]))
    panned, zoomed = of(LANDSCAPE_FILE, PAN_LEFT), of(LANDSCAPE_FILE, ZOOM_IN)
    ways = np.array([ground_displacement(frames) for frames in panned])
    rightwards = abs(np.arctan2(ways[:, 1], ways[:, 0])) < np.pi / 4
    growth = [track.growth for track in map(follow, zoomed) if track is not None]
    return [
        Claim("landscapes cohere", "centroid jump per frame, T2I / module", jump(stills) / jump(moving), 2, 3),
        Claim("", "change from frame to frame, T2I / module", change(stills) / change(moving)),
        Claim("", "clips whose shape can be followed, %", followed),
        Claim("", "frames of the right shape and colour, %", content(moving)),
        Claim("", "the same of the still model, %", content(stills)),
        Claim(
            "a MotionLoRA pans the camera",
            "ground that goes within 45 degrees, % of clips",
            100 * rightwards.mean(),
            75,
            90,
        ),
        Claim("", "how far, pixels", float(np.linalg.norm(ways, axis=1).mean())),
        Claim("", "frames of the right shape and colour, %", content(panned)),
        Claim("a MotionLoRA zooms in", "mean growth of the shape over a clip", float(np.mean(growth)), 1.2, 1.5),
        Claim("", "frames of the right shape and colour, %", content(zoomed)),
    ]
