"""What is to be seen in pictures of the toy world, read back from the pixels.

Frames are ``(frames, height, width, 3)`` in 0..1, lengths in pixels, x to the right and y down.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import scenes

# Ground and watermark are grey; only the shape has colour.
CHROMA = 0.22
SMALLEST = 30  # pixels of something that counts as a shape


@dataclass(frozen=True)
class Seen:
    """The shape in one frame, its outline filled."""

    shape: str
    colour: str
    x: float
    y: float
    area: float

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape}"


def look(frame: np.ndarray) -> Seen | None:
    """The shape in one frame ``(height, width, 3)``; None if there is none."""
    largest = _largest(frame)
    if largest is None:
        return None
    inside = ndimage.binary_fill_holes(largest)
    if inside.sum() < SMALLEST:
        return None
    y, x = ndimage.center_of_mass(inside)
    return Seen(_shape(inside, x + 0.5, y + 0.5), _colour(frame[largest]), x + 0.5, y + 0.5, float(inside.sum()))


def _largest(frame: np.ndarray) -> np.ndarray | None:
    """Where the largest coloured region lies, ``(height, width)``; None if there is none."""
    coloured = np.ptp(frame, axis=-1) > CHROMA
    regions, count = ndimage.label(coloured, np.ones((3, 3)))
    if count == 0:
        return None
    return regions == 1 + np.argmax(ndimage.sum(coloured, regions, range(1, count + 1)))


def _colour(pixels: np.ndarray) -> str:
    """The named colour whose hue - not brightness, which contrast and watermark change - is nearest."""

    def hue(rgb: np.ndarray) -> np.ndarray:
        rgb = rgb - rgb.min(-1, keepdims=True)
        return rgb / np.linalg.norm(rgb, axis=-1, keepdims=True)

    mean = hue(np.median(pixels, axis=0))
    return max(scenes.COLOURS, key=lambda name: float(hue(np.array(scenes.COLOURS[name])) @ mean))


def _shape(inside: np.ndarray, x: float, y: float) -> str:
    """The shape that covers ``inside`` best when it is drawn at the same place with the same area."""
    area = inside.sum()
    radius = {
        "circle": (area / np.pi) ** 0.5,
        "square": (area / 3.24) ** 0.5,
        "triangle": (area / 27**0.5) ** 0.5 / 0.62,
    }

    def overlap(shape: str) -> float:
        drawn = scenes.signed_distance(scenes.Scene(shape, "red", x, y, radius[shape])) < 0
        return (drawn & inside).sum() / (drawn | inside).sum()

    return max(scenes.SHAPES, key=overlap)


@dataclass(frozen=True)
class Track:
    """A shape followed through a clip: places ``(frames, 2)`` as x, y and areas ``(frames,)`` where it was seen."""

    places: np.ndarray
    areas: np.ndarray

    @property
    def jump(self) -> float:
        """Mean distance from frame to frame."""
        return float(np.linalg.norm(np.diff(self.places, axis=0), axis=1).mean())

    @property
    def displacement(self) -> np.ndarray:
        """From the first to the last frame, by a straight line through all places."""
        time = np.arange(len(self.places))
        return np.polyfit(time, self.places, 1)[0] * (len(self.places) - 1)

    @property
    def growth(self) -> float:
        """Width at the end over width at the beginning, by a line through the logarithms."""
        slope = np.polyfit(np.arange(len(self.areas)), np.log(self.areas), 1)[0]
        return float(np.exp(0.5 * slope * (len(self.areas) - 1)))

    @property
    def unsteadiness(self) -> float:
        """How far the area is from a steady growth: standard deviation around that line, as a part of the area."""
        time, areas = np.arange(len(self.areas)), np.log(self.areas)
        return float(np.std(areas - np.polyval(np.polyfit(time, areas, 1), time)))

    def angle_to(self, direction: float) -> float:
        """Degrees between the displacement and ``direction`` (radians)."""
        return angle_between(self.displacement, direction)


def angle_between(displacement: np.ndarray, direction: float) -> float:
    """Degrees between ``displacement`` ``(2,)`` and ``direction`` (radians, 0 right, pi/2 up)."""
    x, y = displacement
    difference = np.angle(np.exp(1j * (np.arctan2(-y, x) - direction)))
    return float(np.degrees(abs(difference)))


def follow(frames: np.ndarray) -> Track | None:
    """None unless the shape is seen in three frames of four."""
    seen = [found for found in map(look, frames) if found is not None]
    if len(seen) < 0.75 * len(frames):
        return None
    return Track(np.array([(s.x, s.y) for s in seen]), np.array([s.area for s in seen]))


def turn(frames: np.ndarray) -> float:
    """Degrees between the displacements of the first and the second half; 180 where one of them cannot be followed."""
    half = len(frames) // 2
    halves = follow(frames[:half]), follow(frames[half:])
    if None in halves:
        return 180.0
    x, y = halves[0].displacement
    return halves[1].angle_to(float(np.arctan2(-y, x)))


def colour_deviation(frames: np.ndarray) -> float:
    """How far the colour of the shape is from its mean over the clip: mean over the frames, in levels of 255."""
    regions = [(frame, _largest(frame)) for frame in frames]
    colours = np.array([np.median(frame[region], axis=0) for frame, region in regions if region is not None])
    return float(255 * np.linalg.norm(colours - colours.mean(0), axis=1).mean())


def steps_around(frames: np.ndarray) -> np.ndarray:
    """How far the shape is from each frame to the next, and last from the last frame to the first, ``(frames,)``.

    NaN where it is not seen.
    """
    places = _places(frames)
    return np.linalg.norm(np.roll(places, -1, axis=0) - places, axis=1)


def _places(frames: np.ndarray) -> np.ndarray:
    """Where the shape is in each frame, ``(frames, 2)``; NaN where it is not seen."""
    seen = [look(frame) for frame in frames]
    return np.array([(np.nan, np.nan) if one is None else (one.x, one.y) for one in seen])


def distances(frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How far the shape is from where it should be in each frame, ``places (frames, 2)``; NaN where it is not seen."""
    return np.linalg.norm(_places(frames) - places, axis=1)


def seam_ratio(frames: np.ndarray, every: int) -> float:
    """How much more frames differ where windows begin or end, at multiples of ``every``, than elsewhere; 1: no seam to be seen."""
    differences = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    at_seam = np.arange(1, len(frames)) % every == 0
    return float(differences[at_seam].mean() / differences[~at_seam].mean())


def content_matches(frames: np.ndarray, caption: str) -> float:
    """Share of frames whose colour and shape are those of the caption."""
    return float(np.mean([seen is not None and seen.caption == caption for seen in map(look, frames)]))


def watermark(frames: np.ndarray) -> float:
    """How much darker the ground is under the watermark, relative to the ground: 0 none, WATERMARK_ALPHA in training."""
    grey = frames.mean(-1)
    ground = np.ptp(frames, axis=-1) < CHROMA / 2
    mark = scenes.WATERMARK[..., 0] > 0.5
    under, beside = (grey[ground & place].mean() for place in (mark[None], ~mark[None]))
    return float(1 - under / beside)


def style(frames: np.ndarray) -> np.ndarray:
    """Statistics of the look: ground colour, share of coloured pixels, share of the filled shape that is coloured.

    The last tells outlines (about a half) from filled shapes (one).
    """
    coloured = np.ptp(frames, axis=-1) > CHROMA
    filled = np.stack([ndimage.binary_fill_holes(frame) for frame in coloured])
    ground = np.median(frames[~filled], axis=0)
    return np.array([*ground, coloured.mean(), coloured.sum() / max(1, filled.sum())])
