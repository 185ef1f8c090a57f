"""The text in which users write a weight for each part of a motion model: ``down: 0.2, up_1: 0.8, up_1__0: 0``.

Parts are called as the inputs of the per-block nodes are: ``down``, ``mid``, ``up``; a level of them, ``down_1``; and one
module of a level, ``down_1__0``.
"""

import re
from dataclasses import replace

from ..motion_models.merging import BlockWeights, Place
from .reader import Reader
from .strengths import MOST_ENTRIES, STYLE, read_strength

NAME = re.compile(r"(?P<part>down|mid|up)(?:_(?P<level>\d{1,3})(?:__(?P<module>\d{1,3}))?)?(?!\w)")
BLOCKS = replace(STYLE, hint="Write pairs of a block and a weight, such as down: 0.2, mid: 0.5, up_1: 0.8, up_1__0: 0")


def block_weights(name: str, text: str, overall: float) -> BlockWeights:
    """What ``text``, of the input ``name``, says; ``overall`` is for all that it does not name. Raises TextError."""
    places: dict[Place, float] = {}
    if not text.strip():
        return BlockWeights(overall)
    reader = Reader(name, text, BLOCKS)
    for start in reader.entries():
        written = reader.match(NAME)
        if not written:
            raise reader.error("a block (down, mid, up, down_0, down_0__1, …)", start)
        place = _place(written)
        if place in places:
            raise reader.error("a block that was not named before", start)
        if len(places) == MOST_ENTRIES:
            raise reader.error(f"no more than {MOST_ENTRIES} entries", start)
        reader.skip_blank()
        if not reader.take(":"):
            raise reader.error(f"':' and a weight behind {written}")
        reader.skip_blank()
        places[place] = read_strength(reader, written)
    return BlockWeights(overall, tuple(places.items()))


def _place(written: str) -> Place:
    match = NAME.match(written)
    assert match is not None
    level, module = (None if match[key] is None else int(match[key]) for key in ("level", "module"))
    return match["part"], level, module
