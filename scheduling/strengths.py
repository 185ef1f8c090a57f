"""The texts in which users write strengths over the sampling run and over the frames of a clip.

    0.0: 1.0, 0.5: 0.3

is a list of ``position: strength``, separated by commas, semicolons or new lines, in any order.
"""

import re

import torch

from ..motion_models.network.strength import HOLD, StrengthSchedule, for_frames
from .text_error import TextError

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
WHOLE = re.compile(r"\d+")
LAST_FRAME = 9999  # of a text: each frame up to the last one named takes a number
BLANK = re.compile(r"[ \t]*")
SEPARATORS = re.compile(r"[\s,;]*")


class StrengthTextError(TextError):
    """A text that is no list of strengths."""

    def __init__(self, name: str, text: str, index: int, expected: str):
        hint = "Write pairs of a position and a strength, such as 0: 1.0, 1: 0.3"
        super().__init__(name, text, index, expected, hint)


def parse_points(
    name: str, text: str, position: str, pattern: re.Pattern, most: float
) -> tuple[tuple[float, float], ...]:
    """``(position, strength)`` pairs of ``text``, in ascending order of position.

    ``name`` is the input's; ``position`` says what positions are: numbers of the form ``pattern`` from 0 to ``most``.
    Raises StrengthTextError.
    """
    points: dict[float, float] = {}
    index = SEPARATORS.match(text).end()
    while index < len(text) or not points:
        key = pattern.match(text, index)
        if key is None or not 0 <= float(key[0]) <= most:
            raise StrengthTextError(name, text, index, f"{position} between 0 and {most:g}")
        if float(key[0]) in points:
            raise StrengthTextError(name, text, index, f"{position} that was not named before")
        index = BLANK.match(text, key.end()).end()
        if text[index : index + 1] != ":":
            raise StrengthTextError(name, text, index, f"':' and a strength behind {key[0]}")
        index = BLANK.match(text, index + 1).end()
        value = NUMBER.match(text, index)
        if value is None:
            raise StrengthTextError(name, text, index, f"a strength (a number) behind '{key[0]}:'")
        points[float(key[0])] = float(value[0])
        end = BLANK.match(text, value.end()).end()
        index = SEPARATORS.match(text, value.end()).end()
        if index == end < len(text):
            raise StrengthTextError(name, text, index, "a comma or a new line")
    return tuple(sorted(points.items()))


def strength_schedule(name: str, text: str, interpolation: str = HOLD) -> StrengthSchedule:
    """The schedule over the sampling run that ``text`` describes; positions are percents, from 0 to 1."""
    return StrengthSchedule(parse_points(name, text, "a percent", NUMBER, 1.0), interpolation)


def frame_strengths(name: str, text: str, interpolation: str = HOLD) -> torch.Tensor:
    """Strengths per frame, ``(k, 1, 1)``, up to the last frame that ``text`` names; its strength serves all that follow."""
    points = parse_points(name, text, "a frame number", WHOLE, LAST_FRAME)
    over_frames = StrengthSchedule(points, interpolation)
    return torch.tensor([over_frames.at(frame) for frame in range(int(points[-1][0]) + 1)])[:, None, None]


def masks_multiplied(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The product of two masks ``(k, height, width)``, as long as the longer one; one may be a number for each frame."""
    frames = max(one.shape[0], other.shape[0])
    return for_frames(one, frames) * for_frames(other, frames)
