"""What the node of a training shows: the losses so far, and below them the latest preview, moving."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..metrics.plot import COLOURS, INK, SEAM, SMALL_FONT, Canvas, axes, ticks
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
    y_axis = ticks(low, high, least=max(high, 1e-6) / 20)
    numbers = {step: f"{step:.0f}" for step in ticks(0, steps)[0] if step <= steps and step % 1 == 0}
    at = axes(canvas, (LEFT, ABOVE, WIDTH - RIGHT, HEIGHT - BELOW), steps, numbers, y_axis)
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
