"""The texts in which users schedule prompts and values over the frames of a clip.

Two styles, each a list with commas between its entries (one more may follow the last) and perhaps braces around it:

    "0": "a cat", "16": "a dog"         in the style of JSON
    0 = "a cat", 16 = "a dog"           in the style of Python

What is scheduled is a text in double quotes, or a number, which brackets or quotes may surround. An index is

    5       that frame, counted from 0; it may lie behind the end of the clip
    -1      a frame counted from the end
    0.5     a place in the clip: 1.0 is the last frame, other decimals f are frame int(f * frames)
    2:6     all frames from the first (included) to the second (excluded)
    4:      that frame, whose value holds until the next entry: no interpolation

The second and third need the number of frames.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .reader import Reader, Style
from .text_error import cut, place

MOST_FRAMES = 1_000_000  # more is a slip of the keyboard, and would fill the memory
INDEX = re.compile(r"[0-9:.-]+")
WHOLE, DECIMAL = re.compile(r"-?[0-9]+"), re.compile(r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+)")
PAIRS = ("()", "[]", "{}", '""', "''")


def _commas(hint: str) -> Style:
    blank = re.compile(r"\s*")
    return Style(blank, blank, re.compile(r",\s*"), "a comma before the next entry", hint)


PROMPTS = _commas(
    'Write frames and prompts, with commas between: "0": "a cat", "16": "a dog"   or   0 = "a cat", 16 = "a dog"'
)
VALUES = _commas('Write frames and numbers, with commas between: "0": 1.0, "16": 1.3   or   0 = 1.0, 16 = 1.3')


@dataclass(frozen=True)
class Entry:
    """``value`` for the frames ``first`` to ``last`` (both included); with ``hold`` until the next entry."""

    first: int
    last: int
    value: Any  # a text or a number
    hold: bool = False


@dataclass(frozen=True)
class ScheduledText:
    """At least one entry, in the order of the text (which need not ascend), for a clip of ``frames`` frames."""

    entries: tuple[Entry, ...]
    frames: int


def parse_prompts(name: str, text: str, frames: int = 0) -> ScheduledText:
    """The schedule of texts in ``text``, the input ``name``.

    ``frames`` is the length of the clip; 0: up to the largest index, and indices from the end or decimal ones are
    refused. Raises TextError, and ValueError for too long a clip.
    """
    return _parse(Reader(name, text, PROMPTS), _quoted, frames)


def parse_values(name: str, text: str, frames: int = 0) -> ScheduledText:
    """The schedule of numbers (floats, perhaps infinite) in ``text``; see parse_prompts."""
    return _parse(Reader(name, text, VALUES), _number, frames)


def _parse(reader: Reader, read_value: Callable[[Reader, str], str | float], frames: int) -> ScheduledText:
    if frames > MOST_FRAMES:
        raise ValueError(
            f"{frames} frames are too many for a schedule, which holds at most {MOST_FRAMES}. Lower max_length, or use "
            "fewer latents."
        )
    json = not reader.over and reader.text[reader.at] == '"'
    entries = tuple(_entry(reader, json, read_value, frames) for _ in reader.entries())
    return ScheduledText(entries, frames or 1 + max(entry.last for entry in entries))


def _entry(reader: Reader, json: bool, read_value: Callable[[Reader, str], str | float], frames: int) -> Entry:
    if reader.take('"') != json:
        raise reader.error("an index in double quotes, as before" if json else "an index without quotes, as before")
    start = reader.at
    index = reader.match(INDEX)
    if not index:
        raise reader.error("the index of a frame")
    first, last, hold = _frames_of(index, start, reader, frames)
    if json and not reader.take('"'):
        raise reader.error(f"'\"' behind the index \"{cut(index)}")
    reader.skip_blank()
    sign = ":" if json else "="
    written = f'"{cut(index)}"' if json else cut(index)
    if not reader.take(sign):
        raise reader.error(f"'{sign}' behind the index {written}")
    reader.skip_blank()
    return Entry(first, last, read_value(reader, f"{written} {sign}"), hold)


def _frames_of(index: str, at: int, reader: Reader, frames: int) -> tuple[int, int, bool]:
    """The first and the last frame of an index that stands at ``at``, and whether it holds."""
    first, *others = index.split(":")
    if len(others) > 1:
        raise reader.error("one ':' in an index", at + index.index(":", len(first) + 1))
    start = _frame(first, at, reader, frames)
    if not others or not others[0]:
        return start, start, bool(others)
    stop = _frame(others[0], at + len(first) + 1, reader, frames)
    start, stop = min(start, stop), max(start, stop)
    return start, max(start, stop - 1), False


def _frame(written: str, at: int, reader: Reader, frames: int) -> int:
    """The frame that one number of an index means."""
    relative = written.startswith("-") or "." in written
    if WHOLE.fullmatch(written):
        # so many digits are out of range whatever they are, and Python refuses to read very many
        frame = int(written) if len(written) < 20 else MOST_FRAMES * (-1 if relative else 1)
        if frame >= MOST_FRAMES:
            raise reader.error(f"the index of a frame below {MOST_FRAMES}", at)
    elif DECIMAL.fullmatch(written):
        share = float(written)
        if not 0 <= share <= 1:
            raise reader.error("a decimal index between 0.0 and 1.0, or a whole number", at)
        frame = frames - 1 if share == 1 else int(share * frames)
    else:
        raise reader.error("the index of a frame, such as 5, -1, 0.5, 2:6 or 4:", at)
    if relative and not frames:
        raise reader.error("an index from 0 on (decimal ones, and those from the end, need max_length)", at)
    return max(0, frame + frames if frame < 0 else frame)


def _quoted(reader: Reader, before: str) -> str:
    opened = reader.at
    if not reader.take('"'):
        raise reader.error(f"a prompt in double quotes behind {before}")
    stop = reader.text.find('"', reader.at, reader.end)
    if stop < 0:
        line, character = place(reader.text, opened)
        expected = f"'\"' at the end of the prompt that begins in line {line}, character {character}"
        raise reader.error(expected, reader.end)
    value, reader.at = reader.text[reader.at : stop], stop + 1
    return value


def _number(reader: Reader, before: str) -> float:
    stop = reader.text.find(",", reader.at, reader.end)
    stop = reader.end if stop < 0 else stop
    written = reader.text[reader.at : stop].rstrip()
    value = _float(written)
    if value is None:
        words = re.match(r"(\S+)\s+\S", written)
        if words and _float(words[1]) is not None:
            raise reader.error("a comma before the next entry", reader.at + words.end() - 1)
        if written.endswith("}") and _float(written[:-1]) is not None:
            raise reader.no_brace(reader.at + len(written) - 1)
        raise reader.error(f"a number behind {before}")
    if math.isinf(value) and "inf" not in written.lower():
        raise reader.error(f"a number up to 1.8e308, or inf, behind {before}")
    reader.at = stop
    return value


def _float(written: str) -> float | None:
    """A number with any brackets and quotes around it; None if it is none."""
    start, stop = 0, len(written)
    while True:
        while start < stop and written[start].isspace():
            start += 1
        while start < stop and written[stop - 1].isspace():
            stop -= 1
        if stop - start < 2 or written[start] + written[stop - 1] not in PAIRS:
            break
        start, stop = start + 1, stop - 1
    try:
        value = float(written[start:stop])
    except ValueError:
        return None
    return None if math.isnan(value) else value
