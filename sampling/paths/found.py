"""The path of what moves in a clip, found by how frames differ from the next ones.

Of something that moves over a ground that does not, its edges ahead and behind differ, all across it: the box around them is that of
the thing, in the middle between the two frames.
"""

import numpy as np
import torch

from .keys import Key, PathError
from .path import LARGEST, SMALLEST, Box, MotionPath, MovingBox

FAINT = 0.3  # of the largest difference in the usual frame: what is less is noise
CUT = 0.03  # of the difference, at each side of a box
LEAST = 1e-4  # a difference that is nothing but rounding, in pictures from 0 to 1 and in latents


def from_clip(clip: torch.Tensor, margin: float = 0.0, word: str = "") -> MotionPath:
    """The box around all that moves in ``clip (frames, channels, height, width)``, pictures or latents.

    ``margin``: how much larger the boxes are at each side, as a share of their own. Raises PathError if nothing moves.
    """
    if len(clip) < 2:
        raise PathError(
            f"The clip has {len(clip)} frames, but a path is found by how frames differ. Connect two or more."
        )
    if clip.ndim != 4 or not torch.isfinite(clip).all():
        raise PathError(
            f"The clip has the shape {tuple(clip.shape)}, or holds infinite values or NaN. Connect the frames of a clip, or its latents "
            "as VAE Encode makes them."
        )
    change = clip.float().cpu().diff(dim=0).abs().mean(1).double()
    largest = change.amax((1, 2))
    level = float(largest[largest > LEAST].median()) if (largest > LEAST).any() else 0.0
    moving = (change - FAINT * level).clamp_min(0)
    times = [i for i, one in enumerate(moving) if level and one.any()]
    if not times:
        raise PathError(
            "Nothing moves in the clip, so there is no path to be found. Connect one in which something does, or Motion Path from "
            "Masks."
        )
    between = np.array([_box(moving[i]) for i in times])
    boxes = np.stack([_at_frames(np.array(times) + 0.5, one, len(clip)) for one in between.T], axis=1)
    boxes[:, 2:] = np.clip((1 + 2 * margin) * boxes[:, 2:], SMALLEST, LARGEST)
    keys = tuple(Key(frame, Box(*map(float, box))) for frame, box in enumerate(boxes))
    return MotionPath((MovingBox(keys, word),))


def _box(weights: torch.Tensor) -> tuple[float, float, float, float]:
    """Of ``weights (height, width)``, but for a little at each side: x, y, width and height, as shares."""
    (left, right), (top, bottom) = (_stretch(weights.sum(dim).numpy()) for dim in (0, 1))
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _stretch(line: np.ndarray) -> np.ndarray:
    """From where to where most of ``line`` lies; within a cell it is taken to be spread evenly."""
    share = np.concatenate([[0], np.cumsum(line)]) / line.sum()
    cut = np.array([CUT, 1 - CUT])
    cells = np.searchsorted(share, cut, side="right") - 1
    return (cells + (cut - share[cells]) / (share[cells + 1] - share[cells])) / len(line)


def _at_frames(times: np.ndarray, values: np.ndarray, frames: int) -> np.ndarray:
    """Values between frames as those of the frames: in between evenly, and half a frame farther at both ends."""
    if len(times) == 1:
        return np.full(frames, values[0])
    ends = np.clip(values[[0, -1]] + (values[[0, -1]] - values[[1, -2]]) / 2, -1, 2)
    return np.interp(np.arange(frames), [times[0] - 0.5, *times, times[-1] + 0.5], [ends[0], *values, ends[1]])
