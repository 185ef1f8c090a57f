"""What the node of a training shows: the losses so far, and below them the latest preview, moving."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..metrics.plot import COLOURS, GREY, GRID, INK, SEAM, SMALL_FONT, Canvas, ticks
from .record import TrainingRecord

WIDTH, HEIGHT = 480, 220  # pixels of the curves
LEFT, RIGHT, ABOVE, BELOW = 64, 28, 34, 26  # from the edges to the axes
CLIP = 260  # the highest that a clip is shown, in pixels
MOST_POINTS = 200  # of a curve: more cannot be told apart
EACH_STEP = "#b8cad6"
# A few steps whose loss is far off would press all others onto the axis.
SHOWN = (0.02, 0.98)


def pictures(record: TrainingRecord, steps: int, clip: Sequence[Image.Image]) -> list[Image.Image]:
    """One for each frame of ``clip``, below the losses; without a clip only the losses of a training of ``steps`` steps."""
    curves = losses(record, steps)
    return [_below(curves, frame) for frame in clip] or [curves]


def losses(record: TrainingRecord, steps: int) -> Image.Image:
    """The loss of each step, smoothed, and of the clips that are held out, in the room that all steps will take."""
    canvas = Canvas(WIDTH, HEIGHT)
    low, high = np.quantile(record.losses, SHOWN)
    curves = [record.smoothed, list(record.validation.values())]
    low, high = min(low, *map(min, filter(None, curves))), max(high, *map(max, filter(None, curves)))
    y_axis, decimals = ticks(low, high, least=max(high, 1e-6) / 20)
    upper, lower = ABOVE, HEIGHT - BELOW

    def at(step: float, loss: float) -> tuple[float, float]:
        share = (min(max(loss, y_axis[0]), y_axis[-1]) - y_axis[0]) / (y_axis[-1] - y_axis[0])
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps, lower + (upper - lower) * share

    for tick in y_axis:
        canvas.line([at(0, tick), at(steps, tick)], GRID, 1)
        canvas.text((LEFT - 8, at(0, tick)[1]), f"{tick:.{decimals}f}", SMALL_FONT, GREY, "rm")
    for tick in ticks(0, steps)[0]:
        if tick <= steps and tick == int(tick):
            canvas.text((at(tick, 0)[0], lower + 5), f"{tick:.0f}", SMALL_FONT, GREY, "ma")
    canvas.line([(LEFT, upper), (LEFT, lower), (WIDTH - RIGHT, lower)], GREY, 1)
    key = {"loss": EACH_STEP, "smoothed": COLOURS[0], "validation": SEAM}
    for place, (name, colour) in enumerate(list(key.items())[: 3 if record.validation else 2]):
        canvas.line([(LEFT + 110 * place, 16), (LEFT + 110 * place + 20, 16)], colour, 4)
        canvas.text((LEFT + 110 * place + 26, 16), name, SMALL_FONT, INK, "lm")
    for values, colour, width in ((record.losses, EACH_STEP, 1), (record.smoothed, COLOURS[0], 3)):
        canvas.line([at(step, loss) for step, loss in _thinned(values)], colour, width)
    held_out = [at(step, loss) for step, loss in record.validation.items()]
    canvas.line(held_out, SEAM, 2)
    for point in held_out:
        canvas.dot(point, SEAM, 3)
    return canvas.picture()


def _thinned(values: Sequence[float]) -> list[tuple[float, float]]:
    """Steps and their values, counted from 1; of many steps in a row the mean."""
    parts = np.array_split(np.arange(len(values)), min(len(values), MOST_POINTS))
    numbers = np.asarray(values)
    return [(float(part.mean()) + 1, float(numbers[part].mean())) for part in parts]


def _below(curves: Image.Image, frame: Image.Image) -> Image.Image:
    scale = min(curves.width / frame.width, CLIP / frame.height)
    frame = frame.resize((round(frame.width * scale), round(frame.height * scale)), Image.Resampling.BICUBIC)
    both = Image.new("RGB", (curves.width, curves.height + frame.height + 4), "white")
    both.paste(curves)
    both.paste(frame, ((curves.width - frame.width) // 2, curves.height + 4))
    return both
