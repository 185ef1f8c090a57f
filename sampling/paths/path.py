"""A path: boxes in the picture, at some frames of the clip, and one object or several that move through them.

Places and sizes are shares of the picture's width and height: ``x`` to the right, ``y`` down, from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .camera import MovingCamera
from .keys import FARTHEST, Key, PathError, between, check_keys

SMALLEST = 0.02  # of a side: nothing that a model draws is smaller
LARGEST = 2.0
SHAPE_OF_TRACKS = "(frames, tracks, 2)"


@dataclass(frozen=True)
class Box:
    """Centre and size, as shares of the picture."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self):
        if not (abs(self.x) <= FARTHEST and abs(self.y) <= FARTHEST):
            raise PathError(
                f"The centre of a box lies at {self.x:g}, {self.y:g}, far from the picture, which goes from 0, 0 (upper left) "
                "to 1, 1. Places are shares of the picture, not pixels."
            )
        if not all(SMALLEST <= side <= LARGEST for side in (self.width, self.height)):
            raise PathError(
                f"A box is {self.width:g} wide and {self.height:g} high, but its sides can be from {SMALLEST:g} to {LARGEST:g}. "
                "They are shares of the picture, not pixels: 0.3 is a third of it."
            )

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.width, self.height


@dataclass(frozen=True)
class MovingBox:
    """The way of one object, ``keys`` at ascending frames. ``word``: what the prompt calls it; empty: the whole prompt."""

    keys: tuple[Key, ...]
    word: str = ""

    def __post_init__(self):
        check_keys(self.keys)

    def at(self, frames: int) -> torch.Tensor:
        """Boxes ``(frames, 4)`` as x, y, width and height."""
        return between(self.keys, frames)

    def over(self, frames: int) -> MovingBox:
        """The same way through ``frames`` frames: from its first key at 0 to its last at the end. Of keys that meet, the first."""
        first, last = self.keys[0].frame, self.keys[-1].frame
        moved: dict[int, Key] = {}
        for key in self.keys:
            moved.setdefault((key.frame - first) * (frames - 1) // max(1, last - first), key)
        return replace(self, keys=tuple(replace(key, frame=frame) for frame, key in moved.items()))


@dataclass(frozen=True)
class MotionPath:
    """The ways of all objects, and of the camera that sees them."""

    objects: tuple[MovingBox, ...] = ()
    camera: MovingCamera | None = None

    def at(self, frames: int) -> torch.Tensor:
        """Boxes ``(objects, frames, 4)``."""
        return torch.stack([one.at(frames) for one in self.objects]) if self.objects else torch.zeros(0, frames, 4)

    def and_also(self, other: MotionPath | None) -> MotionPath:
        """These objects behind those of ``other``. Raises PathError for two cameras."""
        if other is None:
            return self
        if self.camera is not None and other.camera is not None:
            raise PathError(
                "Two cameras move in this path, but a clip is seen by one. Take one of the Camera Path nodes out of prev_path; several "
                "movements of one camera are written into a single node."
            )
        return MotionPath((*other.objects, *self.objects), self.camera or other.camera)


def from_numbers(
    places: Sequence[tuple[int, tuple[float, ...]]], width: float, height: float, ease: str, word: str = ""
) -> MotionPath:
    """Out of frames, each with x and y, and perhaps a size of its own: one number for both sides, or width and height."""

    def key(frame: int, x: float, y: float, *own: float) -> Key:
        sides = (own[0], own[-1]) if own else (width, height)
        return Key(frame, Box(x, y, *sides), ease)

    return MotionPath((MovingBox(tuple(key(frame, *numbers) for frame, numbers in places), word),))


def from_masks(masks: torch.Tensor, margin: float = 0.0, word: str = "") -> MotionPath:
    """The boxes around what is white in ``masks (frames, height, width)``; frames without any are bridged.

    ``margin``: how much larger the boxes are at each side, as a share of their own. Raises PathError if nothing is white.
    """
    keys = []
    for frame, mask in enumerate(masks > 0.5):
        if mask.any():
            (left, right), (top, bottom) = (_ends(mask.any(dim)) for dim in (0, 1))
            sides = (min(LARGEST, max(SMALLEST, (1 + 2 * margin) * size)) for size in (right - left, bottom - top))
            keys.append(Key(frame, Box((left + right) / 2, (top + bottom) / 2, *sides)))
    if not keys:
        raise PathError(
            "All masks are black, so there is nothing to draw boxes around. Connect masks that are white where the thing is."
        )
    return MotionPath((MovingBox(tuple(keys), word),))


def _ends(line: torch.Tensor) -> tuple[float, float]:
    """Where the first true place of ``line`` begins and the last ends, as shares of it."""
    places = line.nonzero().flatten()
    return float(places[0]) / len(line), float(places[-1] + 1) / len(line)


def from_tracks(tracks: dict, width: int, height: int, size: tuple[float, float], word: str = "") -> MotionPath:
    """The way of the middle of the host's TRACKS, whose places are pixels of a picture of ``width`` x ``height``.

    ``track_path (frames, tracks, 2)`` as x, y; ``track_visibility (frames, tracks)``, where there is one. Boxes hold all
    tracks that are visible and are at least of ``size``, shares of the picture; frames without any are bridged.
    """
    places = tracks.get("track_path")
    if not isinstance(places, torch.Tensor) or places.ndim != 3 or places.shape[-1] != 2 or not places.numel():
        raise PathError(
            f"The tracks hold no places of the shape {SHAPE_OF_TRACKS}. Connect a node that makes tracks, such as Generate Video Tracks."
        )
    shares = places.float().cpu() / torch.tensor([width, height])
    visible = tracks.get("track_visibility")
    seen = torch.ones(shares.shape[:2], dtype=torch.bool) if visible is None else visible.cpu().bool()
    seen = seen.expand(shares.shape[:2])
    keys = []
    for frame in range(len(shares)):
        points = shares[frame][seen[frame]]
        if len(points):
            low, high = points.amin(0), points.amax(0)
            middle = ((low + high) / 2).tolist()
            if max(map(abs, middle)) > FARTHEST:
                raise PathError(
                    f"At frame {frame} the tracks lie at {middle[0]:.3g}, {middle[1]:.3g} of a picture of {width} x {height} pixels, "
                    "far outside. Set width and height to those that the tracks were made for."
                )
            sides = torch.maximum(high - low, torch.tensor(size)).clamp(max=LARGEST).tolist()
            keys.append(Key(frame, Box(*middle, *sides)))
    if not keys:
        raise PathError("No track is visible in any frame. Connect tracks that are seen somewhere.")
    return MotionPath((MovingBox(tuple(keys), word),))


def memberships(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """How much of each place lies in a box: ``(…, 4)`` -> ``(…, height, width)`` in 0..1, the share of its area."""
    x, y, w, h = boxes.unbind(-1)
    return _covered(y, h, height)[..., :, None] * _covered(x, w, width)[..., None, :]


def _covered(centre: torch.Tensor, size: torch.Tensor, count: int) -> torch.Tensor:
    """Of each of ``count`` equal parts of a line from 0 to 1 the share that lies in a stretch of it."""
    edges = torch.linspace(0, 1, count + 1, dtype=centre.dtype, device=centre.device)
    low, high = ((centre + sign * size / 2)[..., None] for sign in (-1, 1))
    within = torch.minimum(edges[1:], high) - torch.maximum(edges[:-1], low)
    return (within * count).clamp(0, 1)
