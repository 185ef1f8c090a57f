"""The way of a camera as one picture: from above and from the side."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..motion_models.adapters.camera import Poses
from ..motion_models.adapters.plucker import to_world
from .plot import FONT, GREY, GRID, INK, SMALL_FONT, Canvas, frame_ticks, ticks

SIDE, MARGIN, TITLE, GAP = 420, 60, 70, 20  # pixels
FIRST, LAST = (0x2A, 0x6F, 0x97), (0xD1, 0x49, 0x5B)
ARROWS = 17  # at most
ARROW = 26  # pixels


class View(NamedTuple):
    """Two of the axes: x right, y down, z ahead of the first camera. ``up``: the sign of the vertical one."""

    title: str
    across: int
    upwards: int
    up: int
    names: tuple[str, str]


VIEWS = (View("from above", 0, 2, 1, ("right", "ahead")), View("from the side", 2, 1, -1, ("ahead", "up")))


def camera_path(poses: Poses) -> torch.Tensor:
    """A picture ``(1, 510, 920, 3)`` in 0..1 of where the camera stands in each frame, and where it looks.

    Places are relative to the first frame's camera. Both views have one scale.
    """
    cameras = to_world(poses).numpy()
    centres, ahead = cameras[:, :, 3], cameras[:, :, 2]
    canvas = Canvas(MARGIN + 2 * SIDE + GAP, TITLE + SIDE + GAP)
    canvas.text((MARGIN, 14), f"{len(poses)} camera poses", FONT + 3, INK)
    canvas.text((MARGIN + 2 * SIDE + GAP - 30, 16), "blue: first frame, red: last frame", SMALL_FONT, GREY, "ra")
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
    reach = max(float(np.ptp(centres, axis=0).max()) / 2, 0.5) * 1.25
    for i, view in enumerate(VIEWS):
        _view(canvas, MARGIN + i * (SIDE + GAP), view, centres, ahead, middle, reach)
    return canvas.tensor()


def _view(
    canvas: Canvas, left: int, view: View, centres: np.ndarray, ahead: np.ndarray, middle: np.ndarray, reach: float
) -> None:
    size = SIDE - MARGIN  # of the square between the axes
    bottom = TITLE + size

    def at(point: np.ndarray) -> tuple[float, float]:
        across = (point[view.across] - middle[view.across]) / reach
        upwards = view.up * (point[view.upwards] - middle[view.upwards]) / reach
        return left + size * (1 + across) / 2, bottom - size * (1 + upwards) / 2

    canvas.text((left, TITLE - 24), view.title, FONT, INK)
    for share, number in _round_numbers(middle[view.across], reach):
        x = left + size * share
        canvas.line([(x, bottom), (x, TITLE)], GRID, 1)
        canvas.text((x, bottom + 6), number, SMALL_FONT, GREY, "ma")
    for share, number in _round_numbers(view.up * middle[view.upwards], reach):
        y = bottom - size * share
        canvas.line([(left, y), (left + size, y)], GRID, 1)
        canvas.text((left - 6, y), number, SMALL_FONT, GREY, "rm")
    canvas.text((left + size, bottom + 24), view.names[0], SMALL_FONT, INK, "ra")
    canvas.text((left + 6, TITLE + 4), view.names[1], SMALL_FONT, INK)

    points = [at(centre) for centre in centres]
    canvas.line(points, GREY, 2)
    count = len(points)
    canvas.dot(points[0], _colour(0.0), 9)  # seen also where the camera comes back
    for frame in frame_ticks(count):
        colour = _colour(frame / max(count - 1, 1))
        direction = np.array([ahead[frame, view.across], -view.up * ahead[frame, view.upwards]])
        x, y = points[frame]
        canvas.line([(x, y), (x + ARROW * direction[0], y + ARROW * direction[1])], colour, 2)
        canvas.dot((x, y), colour, 5)
    canvas.dot(points[-1], _colour(1.0), 5)


def _round_numbers(middle: float, reach: float) -> Iterator[tuple[float, str]]:
    """Those of an axis: where they are, from 0 to 1, and as texts."""
    numbers, decimals = ticks(middle - reach, middle + reach)
    for number in numbers:
        if abs(number - middle) <= reach:
            yield (1 + (number - middle) / reach) / 2, f"{number + 0.0:.{decimals}f}"


def _colour(share: float) -> str:
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(FIRST, LAST, strict=True))
