"""Boxes that move through the picture, drawn: over the frames of a clip, or all of them in one picture."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from .plot import COLOURS, FONT, GREY, GRID, INK, SMALL_FONT, Canvas, frame_ticks

SIDE, MARGIN = 480, 60  # pixels: the longer side, and what is around
BOXES = 5  # of each object, in one picture
LINE, DOT = 3, 4


def path_canvas(boxes: torch.Tensor, names: Sequence[str], width: int, height: int, side: int = SIDE) -> Canvas:
    """The ways of all objects in one picture, for clips of the ratio ``width`` to ``height``, whose longer side gets ``side`` pixels.

    ``boxes (objects, frames, 4)``: x, y, width and height as shares of the picture; ``names`` of the objects.
    """
    scale = side / max(width, height)
    across, down = width * scale, height * scale
    canvas = Canvas(round(across) + 2 * MARGIN, round(down) + 2 * MARGIN)

    def at(x: float, y: float) -> tuple[float, float]:
        return MARGIN + across * x, MARGIN + down * y

    canvas.text((MARGIN, 14), f"{boxes.shape[1]} frames", FONT, INK)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        colour = GREY if share in (0.0, 1.0) else GRID
        canvas.line([at(share, 0), at(share, 1)], colour, 1)
        canvas.line([at(0, share), at(1, share)], colour, 1)
        x, y = at(share, share)
        canvas.text((x, MARGIN + down + 6), f"{share:g}", SMALL_FONT, GREY, "ma")
        canvas.text((MARGIN - 8, y), f"{share:g}", SMALL_FONT, GREY, "rm")
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


def over_frames(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """``images (frames, height, width, 3)`` with the boxes of their frames, and the way so far, drawn over them."""
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
        drawn.append(torch.from_numpy(np.asarray(picture, np.float32) / 255))
    return torch.stack(drawn)


def _corners(box: Sequence[float]) -> list[tuple[float, float]]:
    """Of a box, round to the first again."""
    x, y, width, height = box
    left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
