"""Pictures of context windows: which frames each window and view takes, and how much each frame counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy.model_management
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...host.told import Told
from .plan import PlannedStep, coverage
from .schedules import Window

PAPER, INK, GREY, GRID = "#ffffff", "#222222", "#666666", "#d5d5d5"
OTHER, CURRENT, CURRENT_ENDS = "#c6d8e6", "#2a6f97", "#12384f"
OTHER_VIEW, VIEW, VIEW_ENDS = "#f2d9bd", "#e08a2e", "#8f5211"
WEIGHTS, COVERED = (0x2A, 0x6F, 0x97), (0x6A, 0x99, 0x4E)
PAD = 8  # pixels
LOWEST_ROW, HIGHEST_ROW = 8, 26
# Room for names beside the rows, where the picture is wide enough to spare it.
GUTTER, WIDE_ENOUGH = 84, 480
MOST_ROWS = 24  # windows shown below each other: of more, those around the one in question
MOST_BYTES = 4 << 30
TALLEST = 8192
CURVE = 90  # pixels: the sum over all steps

NAMES = {
    "standard_static": "Standard Static",
    "standard_uniform": "Standard Uniform",
    "looped_uniform": "Looped Uniform",
    "batched": "Batched",
    "view_as_context": "Views Only",
}


class PicturesTooLarge(Told, ValueError):
    """More pictures than memory is sensible for; the message says what to lower."""


@dataclass(frozen=True)
class Sheet:
    """Where things are, in pixels: ``frames`` columns of one width behind a gutter for names."""

    width: int
    frames: int

    @property
    def left(self) -> int:
        return PAD + (GUTTER if self.width >= WIDE_ENOUGH else 0)

    @property
    def column(self) -> float:
        return (self.width - self.left - PAD) / self.frames

    @property
    def row(self) -> int:
        return round(min(HIGHEST_ROW, max(LOWEST_ROW, self.column)))

    @property
    def font(self) -> int:
        """The size of titles."""
        return max(9, min(20, self.width // 60))

    def x(self, frame: float) -> float:
        return self.left + frame * self.column


def pictures(steps: Sequence[PlannedStep], frames: int, width: int) -> torch.Tensor:
    """``(pictures, height, width, 3)`` in 0..1: one for each window, or view of a window, of each step.

    Each shows all windows of its step below each other, the one in question dark, and below them its views. Without
    steps a single picture says that the clip is not cut. Raises PicturesTooLarge.
    """
    sheet = Sheet(width, frames)
    if not steps:
        return _stack(1, _height(sheet, 0, 0), width, [lambda draw: _not_cut(draw, sheet)])
    most_windows = min(MOST_ROWS, max(len(step.windows) for step in steps))
    most_views = min(MOST_ROWS, max(len(window.views) for step in steps for window in step.windows))
    contexts = 1 + max(step.context_index for step in steps)
    drawings = [
        lambda draw, i=i, w=w, v=v: _window(draw, sheet, steps, i, w, v, contexts)
        for i, step in enumerate(steps)
        for w, window in enumerate(step.windows)
        for v in (range(len(window.views)) if window.views else (None,))
    ]
    return _stack(len(drawings), _height(sheet, most_windows, most_views), width, drawings)


def _stack(count: int, height: int, width: int, drawings: list[Callable]) -> torch.Tensor:
    if count * height * width * 12 > MOST_BYTES:
        raise PicturesTooLarge(
            f"These are {count} pictures of {width} x {height} pixels, more than {MOST_BYTES >> 30} GiB. "
            "Lower visual_width, steps or latents_length."
        )
    stack = torch.empty(count, height, width, 3)
    for target, drawing in zip(stack, drawings, strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        image = Image.new("RGB", (width, height), PAPER)
        drawing(ImageDraw.Draw(image))
        target.copy_(_pixels(image))
    return stack


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)


def _height(sheet: Sheet, windows: int, views: int) -> int:
    rows = windows + views + bool(views)  # views stand apart
    return _first_row(sheet) + rows * sheet.row + PAD


def _first_row(sheet: Sheet) -> int:
    """Below two lines of title and the numbers of the frames."""
    return PAD + 2 * round(1.4 * sheet.font) + sheet.row + PAD


def _not_cut(draw: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    one_or_more = "frame goes" if sheet.frames == 1 else "frames go"
    _text(draw, (PAD, PAD), f"No windows: {sheet.frames} {one_or_more} through the model at once.", sheet.font, INK)
    why = "No context options, or the clip is no longer than context_length."
    _text(draw, (PAD, PAD + round(1.4 * sheet.font)), why, sheet.font - 2, GREY)
    _numbers(draw, sheet, _first_row(sheet) - PAD - sheet.row)


def _window(
    draw: ImageDraw.ImageDraw,
    sheet: Sheet,
    steps: Sequence[PlannedStep],
    index: int,
    current: int,
    view: int | None,
    contexts: int,
) -> None:
    step = steps[index]
    window = step.windows[current]
    name = NAMES[step.context.windows.schedule]
    context = f", context {step.context_index + 1} of {contexts}" if contexts > 1 else ""
    title = f"Step {index + 1} of {len(steps)}, sigma {step.sigma:.3f}{context}: {name}"
    line = f"Window {current + 1} of {len(step.windows)}: frames {described(window.frames)}"
    if view is not None:
        frames = [window.frames[i] for i in window.views[view].frames]
        line += f". View {view + 1} of {len(window.views)}: frames {described(frames)}"
    _text(draw, (PAD, PAD), title, sheet.font, INK)
    _text(draw, (PAD, PAD + round(1.4 * sheet.font)), line, sheet.font - 2, CURRENT)

    y = _first_row(sheet)
    _numbers(draw, sheet, y - PAD - sheet.row)
    for i in _shown(len(step.windows), current):
        colours = (CURRENT, CURRENT_ENDS) if i == current else (OTHER, OTHER)
        _cells(draw, sheet, y, step.windows[i].frames, *colours, f"window {i + 1}")
        y += sheet.row
    y += sheet.row
    for i in _shown(len(window.views), view or 0):
        colours = (VIEW, VIEW_ENDS) if i == view else (OTHER_VIEW, OTHER_VIEW)
        _cells(draw, sheet, y, [window.frames[k] for k in window.views[i].frames], *colours, f"view {i + 1}")
        y += sheet.row


def _shown(count: int, current: int) -> range:
    first = max(0, min(current - MOST_ROWS // 2, count - MOST_ROWS))
    return range(first, min(first + MOST_ROWS, count))


def described(frames: Window) -> str:
    """Runs of consecutive frames: ``12-27``, ``28-31, 0-11``, ``1, 3, 5, 7``. Long lists are cut short."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:6], "...", texts[-1]])


def _numbers(draw: ImageDraw.ImageDraw, sheet: Sheet, y: int) -> None:
    """The numbers of the frames, as many as there is room for."""
    size = max(8, min(12, round(0.6 * sheet.row)))
    font = ImageFont.load_default(size)
    room = font.getlength(str(sheet.frames - 1)) + 4
    every = next(k for power in range(9) for k in (10**power, 2 * 10**power, 5 * 10**power) if k * sheet.column >= room)
    if sheet.left > PAD:
        _text(draw, (PAD, y + sheet.row / 2), "frame", size, GREY, "lm")
    for frame in range(0, sheet.frames, every):
        _text(draw, (sheet.x(frame + 0.5), y + sheet.row / 2), str(frame), size, GREY, "mm")


def _cells(draw: ImageDraw.ImageDraw, sheet: Sheet, y: int, frames: Window, colour: str, ends: str, name: str) -> None:
    """One row: the clip as a thin line, the frames of a window as boxes on it, its first and last one marked."""
    height = sheet.row - 2
    middle = y + height / 2
    draw.line([(sheet.x(0), middle), (sheet.x(sheet.frames), middle)], GRID, 1)
    gap = 1 if sheet.column >= 4 else 0
    last = len(frames) - 1
    # the ends later: a frame may be listed twice
    for place in [*range(1, last), 0, last]:
        x = sheet.x(frames[place])
        box = (x, y, max(x, x + sheet.column - 1 - gap), y + height - 1)
        draw.rectangle(box, ends if place in (0, last) else colour)
    if sheet.left > PAD:
        _text(draw, (PAD, middle), name, max(8, min(12, height)), INK if colour in (CURRENT, VIEW) else GREY, "lm")


def _text(
    draw: ImageDraw.ImageDraw, point: tuple[float, float], text: str, size: int, colour: str, anchor: str = "la"
) -> None:
    draw.text(point, text, colour, ImageFont.load_default(max(6, size)), anchor)


def weights_map(steps: Sequence[PlannedStep], frames: int, width: int) -> torch.Tensor:
    """One picture ``(1, height, width, 3)`` in 0..1 of how much every frame counts, frames across, steps down.

    For each step a blue row per window, the darker the more a frame counts in it, and a green row for their sum (each
    colour relative to the largest value of its step). At the bottom the sum over all steps, every step counting alike.
    Without steps a picture that says that the clip is not cut. Raises PicturesTooLarge.
    """
    sheet = Sheet(width, frames)
    if not steps:
        return pictures(steps, frames, width)
    rows = sum(len(step.windows) + 2 for step in steps)  # windows, sum, a gap
    top = PAD + 2 * round(1.4 * sheet.font) + sheet.row + PAD
    row = min(14, (TALLEST - top - CURVE) // rows)
    if row < 2:
        raise PicturesTooLarge(
            f"The map of {len(steps)} steps would have {rows} rows, too many for one picture. Lower steps or latents_length."
        )
    height = top + rows * row + CURVE + 4 * PAD
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    sums = coverage(list(steps), frames)
    title = f"Fuse weights of {frames} frames over {len(steps)} steps"
    _text(draw, (PAD, PAD), title, sheet.font, INK)
    key = "blue: each window, green: their sum; relative to the largest of the step"
    _text(draw, (PAD, PAD + round(1.4 * sheet.font)), key, sheet.font - 2, GREY)
    _numbers(draw, sheet, top - PAD - sheet.row)

    y = top
    for index, (step, total) in enumerate(zip(steps, sums, strict=True)):
        if sheet.left > PAD and row >= 3:
            size = max(7, min(11, 2 * row))
            _text(draw, (PAD, y), f"step {index + 1}", size, INK)
            if 2 * size <= row * len(step.windows):
                _text(draw, (PAD, y + size + 2), f"sigma {step.sigma:.2f}", size - 1, GREY)
        most = max(float(window.weights.max()) for window in step.windows)
        for window in step.windows:
            _shades(draw, sheet, y, row, window.frames, window.weights / most, WEIGHTS)
            y += row
        _shades(draw, sheet, y, row, list(range(frames)), total / total.max(), COVERED)
        y += 2 * row
    _curve(draw, sheet, y + PAD, (sums / sums.mean(1, keepdim=True)).mean(0))
    return _pixels(image)[None]


def _shades(
    draw: ImageDraw.ImageDraw, sheet: Sheet, y: int, row: int, frames: Window, values: torch.Tensor, colour: tuple
) -> None:
    draw.line([(sheet.x(0), y + row // 2), (sheet.x(sheet.frames), y + row // 2)], GRID, 1)
    for frame, value in zip(frames, values.tolist(), strict=True):
        # never quite white: a frame of weight almost 0 is in the window all the same
        amount = 0.12 + 0.88 * value
        shade = tuple(round(255 - (255 - channel) * amount) for channel in colour)
        x = sheet.x(frame)
        draw.rectangle((x, y, max(x, x + sheet.column - 1), y + max(1, row - 2)), shade)


def _curve(draw: ImageDraw.ImageDraw, sheet: Sheet, y: int, mean: torch.Tensor) -> None:
    """Bars of the mean coverage of each frame; 1 is the mean of all frames."""
    scale = 0.8 * CURVE / max(float(mean.max()), 1.0)
    bottom = y + CURVE
    for frame, value in enumerate(mean.tolist()):
        x = sheet.x(frame)
        draw.rectangle((x, bottom - scale * value, max(x, x + sheet.column - 2), bottom), COVERED)
    draw.line([(sheet.x(0), bottom - scale), (sheet.x(sheet.frames), bottom - scale)], GREY, 1)
    least, most = int(mean.argmin()), int(mean.argmax())
    text = f"all steps, mean 1: least {mean[least]:.2f} (frame {least}), most {mean[most]:.2f} (frame {most})"
    _text(draw, (sheet.left, y - 4), text, max(8, sheet.font - 3), INK)
