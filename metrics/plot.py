"""The curves of an animation's measures as one picture."""

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .animation import COSINE, Measure, Measurements

WIDTH, PANEL, TITLE = 960, 190, 60  # pixels
LEFT, RIGHT, ABOVE, BELOW = 90, 30, 40, 34  # from the edges of a panel to its axes
FONT, SMALL_FONT = 17, 14
OVERSAMPLING = 2  # Pillow draws lines with hard edges
INK, GREY, GRID, SEAM = "#222222", "#666666", "#dddddd", "#d1495b"
COLOURS = ("#2a6f97", "#468faf", "#61a5c2", "#6a994e", "#e09f3e", "#9a5ea1")
# The least that an axis of a measure spans, so that rounding does not look like a swing.
LEAST_SPAN = 1.0


def plot(animation: Measurements) -> torch.Tensor:
    """A picture ``(1, height, 960, 3)`` in 0..1: a panel for each measure that has a curve, over the frames."""
    curves = [measure for measure in animation.measures if measure.curve is not None]
    canvas = Canvas(WIDTH, TITLE + PANEL * len(curves))
    title = f"{animation.frames} frames, {animation.width} x {animation.height} pixels"
    canvas.text((LEFT, 14), title, FONT + 3, INK)
    if animation.seams:
        ratio = animation.seam_ratio
        note = "window seams" if ratio.not_available else f"window seams, ratio {ratio.value:.2f}"
        canvas.text((WIDTH - RIGHT, 16), note, FONT, SEAM, "ra")
    for i, measure in enumerate(curves):
        panel(canvas, TITLE + PANEL * i, measure, COLOURS[animation.measures.index(measure)], animation)
    return canvas.tensor()


def panel(canvas: "Canvas", top: int, measure: Measure, colour: str, animation: Measurements) -> None:
    """One curve with its axes, in the stripe of the canvas that begins at ``top``."""
    assert measure.curve is not None
    values = measure.curve.tolist()
    name = measure.curve_name or measure.name
    unit = measure.curve_unit or measure.unit
    mean = sum(values) / len(values)
    canvas.text((LEFT, top + 10), f"{name} [{unit}]", FONT, INK)
    canvas.text((WIDTH - RIGHT, top + 10), f"mean {mean:.2f}", FONT, colour, "ra")

    # Cosines crowd below 100; the other measures mean something only against 0.
    y_axis, decimals = ticks(min(values) if measure.unit == COSINE else 0.0, max(values))
    upper, lower = top + ABOVE, top + PANEL - BELOW

    def x(frame: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * frame / (animation.frames - 1)

    def y(value: float) -> float:
        return lower + (upper - lower) * (value - y_axis[0]) / (y_axis[-1] - y_axis[0])

    for tick in y_axis:
        canvas.line([(LEFT, y(tick)), (WIDTH - RIGHT, y(tick))], GRID, 1)
        canvas.text((LEFT - 10, y(tick)), f"{tick:.{decimals}f}", SMALL_FONT, GREY, "rm")
    for seam in animation.seams:
        canvas.line([(x(seam + 0.5), upper), (x(seam + 0.5), lower)], SEAM, 2)
    for frame in frame_ticks(animation.frames):
        canvas.line([(x(frame), lower), (x(frame), lower + 5)], GREY, 1)
        canvas.text((x(frame), lower + 7), f"{frame}", SMALL_FONT, GREY, "ma")
    canvas.text((LEFT - 10, lower + 7), "frame", SMALL_FONT, GREY, "ra")
    canvas.line([(LEFT, upper), (LEFT, lower), (WIDTH - RIGHT, lower)], GREY, 1)

    # A value between two frames belongs in the middle between them.
    between = (animation.frames - len(values)) / 2
    points = [(x(i + between), y(value)) for i, value in enumerate(values)]
    canvas.line(points, colour, 3)
    if len(points) <= 64:
        for point in points:
            canvas.dot(point, colour, 4)


def ticks(low: float, high: float, least: float = LEAST_SPAN) -> tuple[list[float], int]:
    """Three to six round numbers around a range, which is widened to ``least``, and the decimals to write them with."""
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
        if middle >= 0 > low:
            low, high = 0.0, least
    size = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(size))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= size)
    first, last = math.floor(low / step), math.ceil(high / step)
    decimals = max(0, -math.floor(math.log10(step)) + (step / 10 ** math.floor(math.log10(step)) == 2.5))
    return [i * step for i in range(first, last + 1)], decimals


def frame_ticks(frames: int) -> range:
    """At most 17 frame numbers, evenly spaced from 0."""
    step = next(step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power) if frames <= 17 * step)
    return range(0, frames, step)


def axes(
    canvas: "Canvas",
    box: tuple[int, int, int, int],
    x_end: float,
    numbers: dict[float, str],
    y_axis: tuple[list[float], int],
) -> Callable[[float, float], tuple[float, float]]:
    """Axes in ``box`` (left, top, right, bottom): from 0 to ``x_end`` with ``numbers`` at their places, and ``y_axis`` of ``ticks``.

    Returns the way from values to pixels; a value beyond the axis is on its end.
    """
    (left, top, right, bottom), (levels, decimals) = box, y_axis

    def at(x: float, y: float) -> tuple[float, float]:
        share = (min(max(y, levels[0]), levels[-1]) - levels[0]) / (levels[-1] - levels[0])
        return left + (right - left) * x / x_end, bottom + (top - bottom) * share

    for level in levels:
        y = at(0, level)[1]
        canvas.line([(left, y), (right, y)], GRID, 1)
        canvas.text((left - 8, y), f"{level:.{decimals}f}", SMALL_FONT, GREY, "rm")
    for x, text in numbers.items():
        canvas.text((at(x, 0)[0], bottom + 6), text, SMALL_FONT, GREY, "ma")
    canvas.line([(left, top), (left, bottom), (right, bottom)], GREY, 1)
    return at


class Canvas:
    """Drawing in pixels of the finished picture, with smooth edges."""

    def __init__(self, width: int, height: int):
        self.size = (width, height)
        self.image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), "white")
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: list[tuple[float, float]], colour: str, width: int) -> None:
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self.draw.line(scaled, colour, width * OVERSAMPLING, joint="curve")

    def box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        self.draw.rectangle([value * OVERSAMPLING for value in corners], colour)

    def dot(self, point: tuple[float, float], colour: str, radius: float) -> None:
        self.draw.circle([value * OVERSAMPLING for value in point], radius * OVERSAMPLING, colour)

    def text(self, point: tuple[float, float], text: str, size: int, colour: str, anchor: str = "la") -> None:
        font = ImageFont.load_default(size * OVERSAMPLING)
        x, y = (value * OVERSAMPLING for value in point)
        self.draw.text((x, y), text, colour, font, anchor)

    def picture(self) -> Image.Image:
        return self.image.resize(self.size, Image.Resampling.LANCZOS)

    def tensor(self) -> torch.Tensor:
        """``(1, height, width, 3)`` in 0..1."""
        return torch.from_numpy(np.asarray(self.picture(), dtype=np.float32) / 255)[None]
