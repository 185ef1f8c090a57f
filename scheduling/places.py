"""The text in which users write where something is, from frame to frame.

    0: 0.2,0.5  15: 0.8,0.5

is a list of ``frame: x,y``, or ``frame: x,y,size``, or ``frame: x,y,width,height``, with blanks, semicolons or new lines between, in
any order.
"""

import re

from .reader import Reader, Style
from .strengths import LAST_FRAME, MOST_ENTRIES, NUMBER, WHOLE
from .text_error import cut

SEPARATORS = r"[\s;]"
STYLE = Style(
    before=re.compile(f"{SEPARATORS}*"),
    blank=re.compile(""),  # those behind an entry separate it from the next one
    separator=re.compile(f"{SEPARATORS}+"),
    expected="a blank and the next frame, such as 15: 0.8,0.5",
    hint="Write frames and places, x and y from 0 to 1: 0: 0.2,0.5  15: 0.8,0.5",
)
BLANK = re.compile(r"[ \t]*")
COMMA = re.compile(r"[ \t]*,[ \t]*")
MOST_NUMBERS = 4  # x, y, width, height
Places = tuple[tuple[int, tuple[float, ...]], ...]


def parse_places(name: str, text: str, farthest: float, sizes: tuple[float, float]) -> Places:
    """Frames with two to four numbers each, of ``text``, the input ``name``; in ascending order. Raises TextError.

    x and y are from ``-farthest`` to ``farthest``, and sizes between the two of ``sizes``.
    """
    reader = Reader(name, text, STYLE)
    places: dict[int, tuple[float, ...]] = {}
    for start in reader.entries():
        written = reader.match(WHOLE)
        if not written or len(written) > len(str(LAST_FRAME)) or int(written) > LAST_FRAME:
            raise reader.error(f"a frame number between 0 and {LAST_FRAME}", start)
        if int(written) in places:
            raise reader.error("a frame that was not named before", start)
        if len(places) == MOST_ENTRIES:
            raise reader.error(f"no more than {MOST_ENTRIES} entries", start)
        reader.match(BLANK)
        if not reader.take(":"):
            raise reader.error(f"':' and a place behind {cut(written)}")
        reader.match(BLANK)
        places[int(written)] = _numbers(reader, written, ((-farthest, farthest), sizes))
    return tuple(sorted(places.items()))


def _numbers(reader: Reader, frame: str, bounds: tuple[tuple[float, float], tuple[float, float]]) -> tuple[float, ...]:
    """``bounds`` of places, and of sizes."""
    found: list[float] = []
    while not found or (len(found) < MOST_NUMBERS and reader.match(COMMA)):
        start, (least, most) = reader.at, bounds[len(found) // 2]
        number = reader.match(NUMBER)
        if not number:
            raise reader.error(f"a number: '{frame}:' is followed by x and y, such as 0.2,0.5")
        if not least <= float(number) <= most:
            raise reader.error(f"a share of the picture from {least:g} to {most:g} (not pixels)", start)
        found.append(float(number))
    if len(found) == 1:
        raise reader.error(f"a comma and y behind '{frame}: {found[0]:g}'")
    return tuple(found)
