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

The second and third need the number of frames. Specification: ADE behaviour, section 8.1.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from .text_error import TextError

MOST_FRAMES = 1_000_000  # more is a slip of the keyboard, and would fill the memory
BLANK = re.compile(r"\s*")
INDEX = re.compile(r"[0-9:.-]+")
WHOLE, DECIMAL = re.compile(r"-?[0-9]+"), re.compile(r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+)")
PAIRS = ("()", "[]", "{}", '""', "''")
HINT = {
    str: 'Write frames and prompts, with commas between: "0": "a cat", "16": "a dog"   or   0 = "a cat", 16 = "a dog"',
    float: 'Write frames and numbers, with commas between: "0": 1.0, "16": 1.3   or   0 = 1.0, 16 = 1.3',
}


@dataclass(frozen=True)
class Keyframe:
    """``value`` for the frames ``first`` to ``last`` (both included); with ``hold`` until the next keyframe."""

    first: int
    last: int
    value: str | float
    hold: bool = False


@dataclass(frozen=True)
class Schedule:
    """At least one keyframe, in the order of the text (which need not ascend), for a clip of ``frames`` frames."""

    keyframes: tuple[Keyframe, ...]
    frames: int


class ScheduleTextError(TextError):
    """A text that is no schedule."""


def parse_prompts(name: str, text: str, frames: int = 0) -> Schedule:
    """The schedule of texts in ``text``, the input ``name``.

    ``frames`` is the length of the clip; 0: up to the largest index, and indices from the end or decimal ones are
    refused. Raises ScheduleTextError.
    """
    return _parse(_Reader(name, text, str), _quoted, frames)


def parse_values(name: str, text: str, frames: int = 0) -> Schedule:
    """The schedule of numbers (floats, perhaps infinite) in ``text``; see parse_prompts."""
    return _parse(_Reader(name, text, float), _number, frames)


class _Reader:
    """A text and a place in it. ``end`` is where the schedule ends, without the braces around it."""

    def __init__(self, name: str, text: str, kind: type):
        self.name, self.text, self.kind = name, text, kind
        self.at = BLANK.match(text).end()
        self.end = len(text.rstrip())
        if text[self.at : self.at + 1] == "{" and text[self.end - 1] == "}":
            self.at, self.end = self.at + 1, self.end - 1
        self.skip_blank()

    def skip_blank(self) -> None:
        self.at = min(BLANK.match(self.text, self.at).end(), self.end)

    def take(self, character: str) -> bool:
        """Step over ``character``, if it is next."""
        found = self.at < self.end and self.text[self.at] == character
        self.at += found
        return found

    def match(self, pattern: re.Pattern) -> str:
        """Step over what ``pattern`` matches; empty if it is not next."""
        match = pattern.match(self.text, self.at, self.end)
        self.at += len(match[0]) if match else 0
        return match[0] if match else ""

    def error(self, expected: str, at: int | None = None) -> ScheduleTextError:
        at = self.at if at is None else at
        # at a closing brace, or blanks before it, the text is over as far as its writer is concerned
        text = self.text if at < self.end else self.text[: self.end]
        return ScheduleTextError(self.name, text, at, expected, HINT[self.kind])


def _parse(reader: _Reader, read_value: Callable[[_Reader, str], str | float], frames: int) -> Schedule:
    if frames > MOST_FRAMES:
        raise ValueError(f"{frames} frames are too many for a schedule. At most {MOST_FRAMES} are possible.")
    json = reader.at < reader.end and reader.text[reader.at] == '"'
    keyframes = []
    while not keyframes or reader.at < reader.end:
        if reader.take('"') != json:
            raise reader.error("an index in double quotes, as before" if json else "an index without quotes, as before")
        start = reader.at
        index = reader.match(INDEX)
        if not index:
            raise reader.error("the index of a frame")
        first, last, hold = _frames_of(index, start, reader, frames)
        if json and not reader.take('"'):
            raise reader.error(f"'\"' behind the index \"{index}")
        reader.skip_blank()
        sign = ":" if json else "="
        written = f'"{index}"' if json else index
        if not reader.take(sign):
            raise reader.error(f"'{sign}' behind the index {written}")
        reader.skip_blank()
        keyframes.append(Keyframe(first, last, read_value(reader, f"{written} {sign}"), hold))
        reader.skip_blank()
        if reader.at < reader.end and not reader.take(","):
            raise reader.error("a comma before the next entry")
        reader.skip_blank()
    return Schedule(tuple(keyframes), frames or 1 + max(keyframe.last for keyframe in keyframes))


def _frames_of(index: str, at: int, reader: _Reader, frames: int) -> tuple[int, int, bool]:
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


def _frame(written: str, at: int, reader: _Reader, frames: int) -> int:
    """The frame that one number of an index means."""
    relative = written.startswith("-") or "." in written
    if WHOLE.fullmatch(written):
        # so many digits are out of range whatever they are, and Python refuses to read very many
        frame = int(written) if len(written) < 20 else MOST_FRAMES * (-1 if relative else 1)
        if frame >= MOST_FRAMES:
            raise reader.error(f"the index of a frame below {MOST_FRAMES}", at)
    elif DECIMAL.fullmatch(written):
        place = float(written)
        if not 0 <= place <= 1:
            raise reader.error("a decimal index between 0.0 and 1.0, or a whole number", at)
        frame = frames - 1 if place == 1 else int(place * frames)
    else:
        raise reader.error("the index of a frame, such as 5, -1, 0.5, 2:6 or 4:", at)
    if relative and not frames:
        raise reader.error("an index from 0 on (decimal ones, and those from the end, need max_length)", at)
    return max(0, frame + frames if frame < 0 else frame)


def _quoted(reader: _Reader, before: str) -> str:
    if not reader.take('"'):
        raise reader.error(f"a prompt in double quotes behind {before}")
    stop = reader.text.find('"', reader.at, reader.end)
    if stop < 0:
        opened = reader.at - 1
        line, column = reader.text.count("\n", 0, opened), opened - reader.text.rfind("\n", 0, opened)
        reader.at = reader.end
        raise reader.error(f"'\"' at the end of the prompt that begins in line {line + 1}, character {column}")
    value, reader.at = reader.text[reader.at : stop], stop + 1
    return value


def _number(reader: _Reader, before: str) -> float:
    stop = reader.text.find(",", reader.at, reader.end)
    stop = reader.end if stop < 0 else stop
    written = reader.text[reader.at : stop]
    value = _float(written)
    if value is None:
        words = re.match(r"(\S+)\s+\S", written)
        if words and _float(words[1]) is not None:
            raise reader.error("a comma before the next entry", reader.at + words.end() - 1)
        raise reader.error(f"a number behind {before}")
    reader.at = stop
    return value


def _float(written: str) -> float | None:
    """A number with any brackets and quotes around it; None if it is none."""
    written = written.strip()
    while len(written) > 1 and written[0] + written[-1] in PAIRS:
        written = written[1:-1].strip()
    try:
        value = float(written)
    except ValueError:
        return None
    return None if math.isnan(value) else value
