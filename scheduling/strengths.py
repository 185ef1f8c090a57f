"""The texts in which users write strengths over the sampling run and over the frames of a clip.

    0.0: 1.0, 0.5: 0.3

is a list of ``position: strength``, separated by commas, semicolons or new lines, in any order.
"""

import re

import torch

from ..motion_models.network.strength import HOLD, StrengthSchedule, for_frames
from .reader import Reader, Style
from .text_error import cut

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
WHOLE = re.compile(r"\d+")
LAST_FRAME = 9999  # of a text: each frame up to the last one named takes a number
MOST_ENTRIES = 10_000  # as many as a sampler can have steps, or as there can be frames
LARGEST = torch.finfo(torch.float32).max  # of a strength, which becomes a float32
SEPARATORS = r"[\s,;]"
STYLE = Style(
    before=re.compile(f"{SEPARATORS}*"),
    blank=re.compile(r"[ \t]*"),
    separator=re.compile(f"{SEPARATORS}+"),
    expected="a comma or a new line",
    hint="Write pairs of a position and a strength, such as 0: 1.0, 1: 0.3",
)


def parse_points(
    name: str, text: str, position: str, pattern: re.Pattern[str], most: float
) -> tuple[tuple[float, float], ...]:
    """``(position, strength)`` pairs of ``text``, in ascending order of position.

    ``name`` is the input's; ``position`` says what positions are: numbers of the form ``pattern`` from 0 to ``most``.
    Raises TextError.
    """
    reader = Reader(name, text, STYLE)
    points: dict[float, float] = {}
    for start in reader.entries():
        key = reader.match(pattern)
        if not key or not 0 <= float(key) <= most:
            raise reader.error(f"{position} between 0 and {most:g}", start)
        if float(key) in points:
            raise reader.error(f"{position} that was not named before", start)
        if len(points) == MOST_ENTRIES:
            raise reader.error(f"no more than {MOST_ENTRIES} entries", start)
        reader.skip_blank()
        if not reader.take(":"):
            raise reader.error(f"':' and a strength behind {cut(key)}")
        reader.skip_blank()
        points[float(key)] = read_strength(reader, cut(key))
    return tuple(sorted(points.items()))


def read_strength(reader: Reader, key: str) -> float:
    """The number behind ``key:``, where ``reader`` stands. Raises TextError."""
    start = reader.at
    value = reader.match(NUMBER)
    if not value:
        raise reader.error(f"a strength (a number) behind '{key}:'")
    if abs(float(value)) > LARGEST:
        raise reader.error(f"a strength (a number) of no more than {LARGEST:.2g} behind '{key}:'", start)
    return float(value)


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
