"""The clips of a data set as pictures to look over: a few frames of each, and the caption below."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .prepare import THUMBNAIL_SIDE, THUMBNAILS, Prepared

COLUMNS, ROWS = 2, 8  # clips on a page
MOST_PAGES = 16
GAP, TEXT = 8, 52  # pixels
FONT, LINE = 12, 15
CELL = (THUMBNAILS * (THUMBNAIL_SIDE + 2), THUMBNAIL_SIDE + TEXT)
INK, GREY = "#222222", "#666666"


def contact_sheet(clips: Sequence[Prepared]) -> torch.Tensor:
    """Pages ``(pages, height, width, 3)`` in 0..1, with 16 clips each; 16 pages at most, with clips from all of the data set."""
    per_page = COLUMNS * ROWS
    if len(clips) > MOST_PAGES * per_page:
        clips = [clips[number * len(clips) // (MOST_PAGES * per_page)] for number in range(MOST_PAGES * per_page)]
    rows = min(ROWS, -(-len(clips) // COLUMNS))
    pages = [_page(clips[start : start + per_page], rows) for start in range(0, len(clips), per_page)]
    return torch.from_numpy(np.stack(pages)).float() / 255


def _page(clips: Sequence[Prepared], rows: int) -> np.ndarray:
    width, height = (GAP + count * (side + GAP) for count, side in zip((COLUMNS, rows), CELL, strict=True))
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)
    for number, clip in enumerate(clips):
        left = GAP + number % COLUMNS * (CELL[0] + GAP)
        top = GAP + number // COLUMNS * (CELL[1] + GAP)
        for place, thumbnail in enumerate(clip.thumbnails.numpy()):
            image.paste(Image.fromarray(thumbnail), (left + place * (THUMBNAIL_SIDE + 2), top))
        file = clip.clip.file
        repeats = f", {file.repeats} times" if file.repeats > 1 else ""
        title = f"{file.name} from {clip.clip.times[0]:.1f} s{repeats}"
        below = top + THUMBNAIL_SIDE + 2
        draw.text((left, below), fitting(title, font), GREY, font)
        for line, text in enumerate(wrapped(file.caption or "(no caption)", font)):
            draw.text((left, below + (line + 1) * LINE), text, INK, font)
    return np.asarray(image)


def wrapped(text: str, font) -> list[str]:
    """``text`` in two lines as wide as a cell; what is left ends in dots."""
    words, first = text.split(), ""
    while words and font.getlength(f"{first} {words[0]}") <= CELL[0]:
        first = f"{first} {words.pop(0)}".strip()
    if not first:
        return [fitting(text, font)]
    return [first, fitting(" ".join(words), font)]


def fitting(text: str, font) -> str:
    if font.getlength(text) <= CELL[0]:
        return text
    text = text[: CELL[0]]  # no letter is narrower than a pixel
    while text and font.getlength(f"{text}…") > CELL[0]:
        text = text[:-1]
    return f"{text}…"
