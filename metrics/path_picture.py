"""Boxes that move through the picture, and what a camera sees of it, drawn: over the frames of a clip, or in one picture."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from .plot import COLOURS, FONT, GREY, GRID, INK, SEAM, SMALL_FONT, Canvas, frame_ticks

SIDE, MARGIN = 480, 60  # pixels: the longer side, and what is around
BOXES = 5  # of each object, in one picture
LINE, DOT = 3, 4


def path_canvas(
    boxes: torch.Tensor,
    names: Sequence[str],
    width: int,
    height: int,
    side: int = SIDE,
    outlines: torch.Tensor | None = None,
) -> Canvas:
    """The ways of all objects in one picture, for clips of the ratio ``width`` to ``height``, whose longer side gets ``side`` pixels.

    ``boxes (objects, frames, 4)``: x, y, width and height as shares of the picture; ``names`` of the objects. ``outlines (frames, 4,
    2)``: the corners of what a camera sees, as shares of the first frame's picture; room is made for all of them.
    """
    low, high = torch.zeros(2), torch.ones(2)
    if outlines is not None:
        low, high = torch.minimum(low, outlines.amin((0, 1))), torch.maximum(high, outlines.amax((0, 1)))
    reach = (high - low) * torch.tensor([width, height])
    scale = side / float(reach.max())
    across, down = width * scale, height * scale
    left, top = MARGIN - across * float(low[0]), MARGIN - down * float(low[1])
    canvas = Canvas(*(round(float(one) * scale) + 2 * MARGIN for one in reach))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + across * x, top + down * y

    canvas.text((MARGIN, 14), f"{boxes.shape[1]} frames", FONT, INK)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        colour = GREY if share in (0.0, 1.0) else GRID
        canvas.line([at(share, 0), at(share, 1)], colour, 1)
        canvas.line([at(0, share), at(1, share)], colour, 1)
        x, y = at(share, share)
        canvas.text((x, top + down + 6), f"{share:g}", SMALL_FONT, GREY, "ma")
        canvas.text((left - 8, y), f"{share:g}", SMALL_FONT, GREY, "rm")
    if outlines is not None:
        _camera(canvas, outlines, at)
    for i, (of_object, name) in enumerate(zip(boxes.tolist(), names, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        for frame in sorted({round(place) for place in np.linspace(0, len(of_object) - 1, BOXES)}):
            canvas.line([at(*corner) for corner in _corners(of_object[frame])], colour, 1)
        canvas.line([at(x, y) for x, y, *_ in of_object], colour, LINE)
        for frame in frame_ticks(len(of_object)):
            x, y, *_ = of_object[frame]
            canvas.dot(at(x, y), colour, DOT)
        for frame in (0, len(of_object) - 1):
            x, y = at(*of_object[frame][:2])
            canvas.text((x, y - 8), f"{frame} {name}".strip(), SMALL_FONT, INK, "md")
    return canvas


def _camera(canvas: Canvas, outlines: torch.Tensor, at: Callable[[float, float], tuple[float, float]]) -> None:
    """What a camera sees in some frames, and the way of its middle."""
    count = len(outlines)
    for frame in sorted({round(place) for place in np.linspace(0, count - 1, BOXES)}):
        corners = [at(*corner) for corner in outlines[frame].tolist()]
        canvas.line([*corners, corners[0]], SEAM, LINE if frame in (0, count - 1) else 1)
        canvas.text(corners[0], f"{frame}", SMALL_FONT, SEAM, "lt")
    canvas.line([at(*middle) for middle in outlines.mean(1).tolist()], SEAM, 1)


def over_frames(images: torch.Tensor, boxes: torch.Tensor, outlines: torch.Tensor | None = None) -> torch.Tensor:
    """``images (frames, height, width, 3)`` with the boxes of their frames, and the way so far, drawn over them.

    ``outlines (frames, 4, 2)``: corners of something that moves with the picture as a camera moves, as shares.
    """
    _, height, width, _ = images.shape
    line = max(1, round(min(height, width) / 200))
    drawn = []
    for frame, image in enumerate(images):
        picture = Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())
        draw = ImageDraw.Draw(picture)
        for i, of_object in enumerate(boxes.tolist()):
            colour = COLOURS[i % len(COLOURS)]
            corners = [(x * width, y * height) for x, y in _corners(of_object[frame])]
            draw.line(corners, colour, line)
            way = [(x * width, y * height) for x, y, *_ in of_object[: frame + 1]]
            draw.line(way, colour, line)
        if outlines is not None:
            corners = [(x * width, y * height) for x, y in outlines[frame].tolist()]
            draw.line([*corners, corners[0]], SEAM, line)
        drawn.append(torch.from_numpy(np.asarray(picture, np.float32) / 255))
    return torch.stack(drawn)


def _corners(box: Sequence[float]) -> list[tuple[float, float]]:
    """Of a box, round to the first again."""
    x, y, width, height = box
    left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
