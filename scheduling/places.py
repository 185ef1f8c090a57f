"""The text in which users write where something is, from frame to frame.

    0: 0.2,0.5  15: 0.8,0.5

is a list of ``frame: x,y``, with one or two numbers more where there are any, with blanks, semicolons or new lines between, in any
order. A box has a size behind its place, or width and height; a camera has a zoom and a roll.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .reader import Reader, Style
from .strengths import LAST_FRAME, MOST_ENTRIES, NUMBER, WHOLE
from .text_error import cut

SEPARATORS = r"[\s;]"
STYLE = Style(
    before=re.compile(f"{SEPARATORS}*"),
    blank=re.compile(""),  # those behind an entry separate it from the next one
    separator=re.compile(f"{SEPARATORS}+"),
    expected="a blank and the next frame, such as 15: 0.8,0.5",
    hint="",
)
BLANK = re.compile(r"[ \t]*")
COMMA = re.compile(r"[ \t]*,[ \t]*")
Places = tuple[tuple[int, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Bounds:
    """Of a number, and what an error calls it: ``least`` and ``most`` go into the braces of ``what``."""

    least: float
    most: float
    what: str = "a share of the picture from {:g} to {:g} (not pixels)"

    @property
    def told(self) -> str:
        return self.what.format(self.least, self.most)


@dataclass(frozen=True)
class Form:
    """What follows a frame: the bounds of x, y and up to two numbers more. ``hint`` shows a whole text in errors."""

    numbers: tuple[Bounds, ...]
    hint: str


def boxes(farthest: float, sizes: tuple[float, float]) -> Form:
    """x and y from ``-farthest`` to ``farthest``; a size, or width and height, between the two of ``sizes``."""
    place, size = Bounds(-farthest, farthest), Bounds(*sizes)
    return Form((place, place, size, size), "Write frames and places, x and y from 0 to 1: 0: 0.2,0.5  15: 0.8,0.5")


def cameras(farthest: float, zooms: tuple[float, float], most_roll: float) -> Form:
    """How far a camera goes, at most ``farthest``, its zoom between the two of ``zooms``, and its roll."""
    place = Bounds(-farthest, farthest)
    zoom = Bounds(*zooms, "a zoom from {:g} to {:g} (2 is twice as near)")
    roll = Bounds(-most_roll, most_roll, "a roll from {:g} to {:g} degrees")
    hint = "Write frames and how far the camera has gone by then, its zoom and its roll: 0: 0,0,1,0  15: 0.3,0,1.5,10"
    return Form((place, place, zoom, roll), hint)


def parse_places(name: str, text: str, form: Form) -> Places:
    """Frames with two to four numbers each, of ``text``, the input ``name``; in ascending order. Raises TextError."""
    reader = Reader(name, text, replace(STYLE, hint=form.hint))
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
        places[int(written)] = _numbers(reader, written, form.numbers)
    return tuple(sorted(places.items()))


def _numbers(reader: Reader, frame: str, numbers: Sequence[Bounds]) -> tuple[float, ...]:
    found: list[float] = []
    while not found or (len(found) < len(numbers) and reader.match(COMMA)):
        start, bounds = reader.at, numbers[len(found)]
        number = reader.match(NUMBER)
        if not number:
            raise reader.error(f"a number: '{frame}:' is followed by x and y, such as 0.2,0.5")
        if not bounds.least <= float(number) <= bounds.most:
            raise reader.error(bounds.told, start)
        found.append(float(number))
    if len(found) == 1:
        raise reader.error(f"a comma and y behind '{frame}: {found[0]:g}'")
    return tuple(found)
