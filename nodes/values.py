"""Numbers that cannot be meant: told in words, before anything is computed with them.

The host compares a widget's number with its smallest and largest value only where it is typed in, and lets NaN pass even
there. Through links anything comes in. A range is no law: what lies outside it and still means something (a context
longer than 128, a negative strength) goes through, as workflow files rely on it.
"""

from collections.abc import Sequence
from numbers import Real

import torch
from comfy_api.latest import io

from ..scheduling.grammar import MOST_FRAMES

LARGEST = torch.finfo(torch.float32).max  # pictures are computed in float32 or less
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
CHECKED = ("FLOAT", "INT", "FLOATS", "MULTIVAL", "MASK", "SIGMAS")
MOST_NUMBERS = MOST_FRAMES  # of a list with one for each frame
MOST_KEYFRAMES = 10_000  # the most steps of a sampler node


def number_problem(entry: io.Input, value: object) -> str | None:
    """Why nothing can be made of ``value``, of the kind that ``entry`` takes, as the end of a sentence; None if something can."""
    if entry.get_io_type() not in CHECKED:
        return None
    if isinstance(value, torch.Tensor):
        return None if torch.isfinite(value).all() else "got numbers that are not finite (NaN or infinity)"
    if isinstance(value, (list, tuple)):
        return _problem_of_list(value)
    return _problem_of_number(value) or _problem_of_count(entry, value)


def _problem_of_number(value: object) -> str | None:
    # not abs(value) > LARGEST: that lets NaN pass
    if isinstance(value, Real) and not -LARGEST <= value <= LARGEST:
        return f"is {_written(value)}, but has to be a finite number, at most {LARGEST:.2g}"
    return None


def _problem_of_list(values: Sequence) -> str | None:
    if len(values) > MOST_NUMBERS:
        return f"is a list of {len(values)} numbers, but can have at most {MOST_NUMBERS}: one for each frame of a clip"
    for place, value in enumerate(values):
        if type(value) is float and -LARGEST <= value <= LARGEST:  # as they mostly are: ten times as fast
            continue
        if what := _problem_of_number(value):
            return f"is a list whose item {place} (counted from 0) {what}"
    return None


def _problem_of_count(entry: io.Input, value: object) -> str | None:
    """Lengths, counts and places begin at 0 or 1. A larger minimum is advice: one interval of a curve works as well."""
    if not isinstance(entry, io.Int.Input) or entry.min is None or not isinstance(value, Real):
        return None
    least = min(entry.min, 1)
    # above 0 will do for a rate, which may be half a frame; seeds wrap around
    if value >= least or (least == 1 and value > 0) or entry.max == LARGEST_SEED:
        return None
    return f"is {_written(value)}, but has to be at least {least}"


def _written(value: Real) -> str:
    try:
        return f"{value:g}"
    except OverflowError:
        return "a whole number of hundreds of digits"


# For numbers whose bounds depend on more than their own input: a node calls these by the name of its widget.


def at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} is {_written(value)}, but has to be at least {_written(least)}. Raise it.")


def above(name: str, value: float, bound: float) -> None:
    if not value > bound:
        raise ValueError(f"{name} is {_written(value)}, but has to be above {_written(bound)}. Raise it.")


def at_most(name: str, value: float, most: float, reason: str) -> None:
    """``reason`` says why, as the end of a sentence."""
    if not value <= most:
        raise ValueError(f"{name} is {_written(value)}, but can be at most {_written(most)}: {reason}. Lower it.")


def check_keyframes(name: str, count: int) -> None:
    at_most(name, count, MOST_KEYFRAMES, "no sampler has more steps, so no more keyframes can act")
