"""What the pictures of the help pages are put together from: rows of frames, curves, arrows. ``picture`` is a Canvas of metrics/plot.py."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from typing import Any

WIDTH, EDGE = 400, 8  # pixels: the front end shows them about 260 wide
LEFT = 84  # of rows behind their names
FONT, SMALL = 17, 15
BLUE, PALE, DARK = "#2a6f97", "#8fb8d2", "#12384f"
RED, GREEN, ORANGE = "#d1495b", "#6a994e", "#e09f3e"
INK, GREY, GRID = "#222222", "#666666", "#c8c8c8"
Points = Sequence[tuple[float, float]]
drawings: dict[str, Callable[[], Any]] = {}
pack: list[Any] = []  # the pack, once it is loaded: pictures ask it for all that they show


def drawing(function: Callable[[], Any]) -> Callable[[], Any]:
    """A function that returns a Canvas; the picture has its name."""
    drawings[function.__name__] = function
    return function


def part(name: str) -> Any:
    """A module of the pack."""
    return pack[0].submodule(name)


def canvas(height: int) -> Any:
    return part("metrics.plot").Canvas(WIDTH, height)


def frame_numbers(picture: Any, y: float, frames: int, every: int) -> None:
    picture.text((EDGE, y), "frame", SMALL, GREY)
    for frame in range(0, frames, every):
        picture.text((column(frame + 0.5, frames), y), f"{frame}", SMALL, GREY, "ma")


def column(frame: float, frames: int) -> float:
    return LEFT + (WIDTH - LEFT - EDGE) * frame / frames


def cells(picture: Any, y: float, frames: int, colours: dict[int, str], height: int = 14) -> None:
    """A row: the clip as a thin line, and boxes of these colours for some of its frames."""
    middle = y + height / 2
    picture.line([(LEFT, middle), (WIDTH - EDGE, middle)], GRID, 1)
    for frame, colour in colours.items():
        picture.line([(column(frame, frames) + 0.5, middle), (column(frame + 1, frames) - 0.5, middle)], colour, height)


def window_rows(picture: Any, y: float, frames: int, windows: Sequence[Sequence[int]]) -> float:
    """A row for each window, darker where it shares frames with another. Returns where the next row begins."""
    counts = [sum(frame in window for window in windows) for frame in range(frames)]
    for window in windows:
        cells(picture, y, frames, {frame: BLUE if counts[frame] > 1 else PALE for frame in window})
        y += 18
    return y


def mixed(first: str, second: str, share: float) -> str:
    pairs = zip(bytes.fromhex(first[1:]), bytes.fromhex(second[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def hue(share: float) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colorsys.hls_to_rgb(share, 0.6, 0.55))


def arc(picture: Any, start: tuple[float, float], end: tuple[float, float], height: float) -> None:
    """A bow over both, with an arrow's head at its end."""
    shares = [i / 24 for i in range(25)]
    picture.line(
        [
            (start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s - height * math.sin(math.pi * s))
            for s in shares
        ],
        RED,
        2,
    )
    arrow_head(picture, (end[0] + 5, end[1] - 9), end, RED)


def arrow_head(
    picture: Any, start: tuple[float, float], end: tuple[float, float], colour: str, size: float = 7
) -> None:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    for turn in (2.6, -2.6):
        side = (end[0] + size * math.cos(angle + turn), end[1] + size * math.sin(angle + turn))
        picture.line([end, side], colour, 2)


def panel(
    picture: Any,
    box: tuple[float, float, float, float],
    x_axis: tuple[float, float],
    y_axis: tuple[float, float],
    *,
    title: str = "",
    x_name: str = "",
    x_ticks: Sequence[float] = (),
    y_ticks: Sequence[float] = (),
) -> Callable[[float, float], tuple[float, float]]:
    """Axes in ``box`` (left, top, right, bottom). Returns the way from numbers to pixels."""
    left, top, right, bottom = box

    def at(x: float, y: float) -> tuple[float, float]:
        across, upwards = (x - x_axis[0]) / (x_axis[1] - x_axis[0]), (y - y_axis[0]) / (y_axis[1] - y_axis[0])
        return left + (right - left) * across, bottom - (bottom - top) * upwards

    for tick in y_ticks:
        picture.line([at(x_axis[0], tick), at(x_axis[1], tick)], GRID, 1)
        picture.text((left - 6, at(0, tick)[1]), f"{tick:g}", SMALL, GREY, "rm")
    for tick in x_ticks:
        picture.text((at(tick, 0)[0], bottom + 5), f"{tick:g}", SMALL, GREY, "ma")
    picture.line([(left, top), (left, bottom), (right, bottom)], GREY, 1)
    picture.text((left, top - 8), title, FONT, INK, "ls")
    if x_name:
        picture.text((right, bottom + 22), x_name, SMALL, GREY, "ra")
    return at


def curve(picture: Any, points: Points, colour: str, dots: bool = False) -> None:
    picture.line(list(points), colour, 3)
    for point in points if dots else ():
        picture.dot(point, colour, 4)


def key(picture: Any, x: float, y: float, entries: dict[str, str]) -> None:
    for name, colour in entries.items():
        picture.line([(x, y), (x + 22, y)], colour, 4)
        picture.text((x + 28, y), name, SMALL, INK, "lm")
        y += 20
