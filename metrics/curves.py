"""Values as one picture: curves over the frames of a clip or over a sampling run, and masks."""

from collections.abc import Callable, Mapping, Sequence

import torch

from .plot import FONT, GREY, INK, SMALL_FONT, Canvas, axes, frame_ticks, ticks

WIDTH, HEIGHT = 640, 320  # pixels
LEFT, RIGHT, ABOVE, BELOW = 64, 24, 52, 44  # from the edges to the axes
KEY = 22  # pixels of a line of the key
MOST_NAMES = 12
POINTS = 401  # of a curve over a run
MASKS, SIDE = 8, 140  # how many are shown, and their longer side in pixels
LEAST_SPAN = 0.1
COLOURS = ("#2a6f97", "#e09f3e", "#6a994e", "#d1495b", "#9a5ea1")
LIGHT, DARK = (0xEE, 0xF4, 0xF8), (0x12, 0x38, 0x4F)


def over_frames(title: str, curves: Mapping[str, Sequence[float]]) -> torch.Tensor:
    """A picture ``(1, height, 640, 3)`` in 0..1: the value of each frame, for each name a curve."""
    frames = max(map(len, curves.values()))
    points = {name: list(enumerate(values)) for name, values in curves.items()}
    return _curves(title, "frame", max(frames - 1, 1), {frame: f"{frame}" for frame in frame_ticks(frames)}, points)


def over_run(title: str, curves: Mapping[str, Callable[[float], float]]) -> torch.Tensor:
    """The same over the sampling schedule: each curve is a function of the percent, 0 being pure noise and 1 the clip."""
    percents = [i / (POINTS - 1) for i in range(POINTS)]
    points = {name: [(percent, at(percent)) for percent in percents] for name, at in curves.items()}
    numbers = {i / 5: f"{i / 5:g}" for i in range(6)}
    return _curves(title, "percent: 0 pure noise, 1 the finished clip", 1.0, numbers, points)


def _curves(
    title: str,
    x_name: str,
    x_end: float,
    numbers: dict[float, str],
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> torch.Tensor:
    names = list(curves)[:MOST_NAMES] if len(curves) > 1 else []
    canvas = Canvas(WIDTH, HEIGHT + KEY * len(names))
    values = [value for points in curves.values() for _, value in points]
    y_axis = ticks(min(0.0, *values), max(0.0, *values), LEAST_SPAN)
    at = axes(canvas, (LEFT, ABOVE, WIDTH - RIGHT, HEIGHT - BELOW), x_end, numbers, y_axis)
    canvas.text((LEFT, 12), title, FONT, INK)
    canvas.text((WIDTH - RIGHT, HEIGHT - BELOW + 24), x_name, SMALL_FONT, GREY, "ra")
    for i, points in enumerate(curves.values()):
        colour, placed = COLOURS[i % len(COLOURS)], [at(*point) for point in points]
        # the first ones broad: those that lie on them leave something to be seen
        canvas.line(placed, colour, max(3, 2 * len(names) + 1 - 2 * i) if len(names) < 4 else 3)
        for point in placed if len(placed) <= 64 else ():
            canvas.dot(point, colour, 4)
        if i < len(names):
            y = HEIGHT + KEY * (i + 0.5) - 4
            canvas.line([(LEFT, y), (LEFT + 24, y)], colour, 4)
            canvas.text((LEFT + 32, y), names[i], SMALL_FONT, INK, "lm")
    return canvas.tensor()


def masks(title: str, values: torch.Tensor) -> torch.Tensor:
    """Some of the masks ``(frames, height, width)`` side by side, with the lowest and the highest value; dark is high."""
    chosen = torch.linspace(0, len(values) - 1, min(MASKS, len(values))).round().long().unique().tolist()
    low, high = float(values.min()), float(values.max())
    canvas = Canvas(max(WIDTH, 20 + (SIDE + 10) * min(4, len(chosen))), 60 + (SIDE + 30) * -(-len(chosen) // 4))
    canvas.text((20, 12), f"{title}: light {low:.3g}, dark {high:.3g}", FONT, INK)
    for i, frame in enumerate(chosen):
        left, top = 20 + (SIDE + 10) * (i % 4), 48 + (SIDE + 30) * (i // 4)
        _mask(canvas, left, top, (values[frame] - low) / max(high - low, 1e-9))
        canvas.text((left, top + SIDE + 4), f"frame {frame}", SMALL_FONT, GREY)
    return canvas.tensor()


def _mask(canvas: Canvas, left: float, top: float, shares: torch.Tensor) -> None:
    """``shares (height, width)`` in 0..1, in a square of SIDE pixels, in cells of a few pixels."""
    height, width = shares.shape
    scale = SIDE / max(height, width)
    cells = torch.nn.functional.adaptive_avg_pool2d(shares[None].float(), (min(height, 35), min(width, 35)))[0]
    down, across = height * scale / cells.shape[0], width * scale / cells.shape[1]
    for row, line in enumerate(cells.tolist()):
        for place, share in enumerate(line):
            colour = "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(LIGHT, DARK, strict=True))
            x, y = left + across * place, top + down * row
            canvas.box((x, y, x + across, y + down), colour)
