"""Lists of frames that users write: ``0, 16, 32``."""

import re

from .grammar import MOST_FRAMES
from .reader import Reader, Style

WHOLE = re.compile(r"\d+")
BLANK = re.compile(r"\s*")
STYLE = Style(BLANK, BLANK, re.compile(r",\s*"), "a comma before the next frame", "Write frame numbers: 0, 16, 32")
MOST_ENTRIES = 10_000


def parse_frame_numbers(name: str, text: str) -> frozenset[int]:
    """The frames that ``text``, the input ``name``, lists, counted from 0; an empty text lists none. Raises TextError."""
    if not text.strip():
        return frozenset()
    reader = Reader(name, text, STYLE)
    found: list[int] = []
    for start in reader.entries():
        number = reader.match(WHOLE)
        if not number or len(number) > len(str(MOST_FRAMES)) or int(number) >= MOST_FRAMES:
            raise reader.error(f"a frame number from 0 to {MOST_FRAMES - 1}", start)
        if len(found) == MOST_ENTRIES:
            raise reader.error(f"no more than {MOST_ENTRIES} frames", start)
        found.append(int(number))
    return frozenset(found)
