"""From the keyframes of a schedule to every frame of the clip. Specification: ADE behaviour, section 8.2."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .grammar import Keyframe, Schedule

LARGEST_INT = 9007199254740991  # of JSON, and of INT widgets


@dataclass(frozen=True)
class Run:
    """Neighbouring frames, in the order in which they are filled, on the way from one keyframe to another.

    From one to itself: its value for all of them. Otherwise the first frame is ``start`` and the last one ``end``.
    """

    frames: range
    start: Keyframe
    end: Keyframe

    def within(self, frames: int) -> slice:
        """Which items of this run lie in a clip of so many frames."""
        if self.frames.step > 0:
            return slice(max(0, frames - self.frames.start))
        return slice(max(0, self.frames.start - frames + 1), None)


def runs(schedule: Schedule) -> Iterator[Run]:
    """What the keyframes say, in their order: later runs replace earlier ones.

    Together they cover the frames from 0 up to some frame that may lie before or behind the end of the clip.
    """
    previous, *others = schedule.keyframes
    yield Run(range(previous.last + 1), previous, previous)
    for keyframe in others:
        first = keyframe.first
        if previous.hold:
            yield Run(range(previous.last + 1, first), previous, previous)
        elif first not in (previous.last, previous.last + 1):
            step = 1 if first > previous.last else -1
            yield Run(range(previous.last, first + step, step), previous, keyframe)
            first += 1
        yield Run(range(first, keyframe.last + 1), keyframe, keyframe)
        previous = keyframe


def values_per_frame(schedule: Schedule) -> list[float]:
    """One number for each frame of the clip. Frames behind the last that the schedule reaches repeat its value.

    Between keyframes it is linear, in float32 (0.3 becomes 0.30000001192092896); elsewhere numbers stay as written.
    """
    filled: dict[int, float] = {}
    for run in runs(schedule):
        inside = run.within(schedule.frames)
        if run.start is run.end:
            filled.update(dict.fromkeys(run.frames[inside], run.end.value))
        else:
            filled.update(zip(run.frames[inside], _line(run)[inside].tolist(), strict=True))
    last = filled[max(filled)]
    return [filled.get(frame, last) for frame in range(schedule.frames)]


def _line(run: Run) -> torch.Tensor:
    ends = torch.tensor([run.start.value, run.end.value], dtype=torch.float64).float()
    line = torch.linspace(*ends.tolist(), len(run.frames), dtype=torch.float32) if ends.isfinite().all() else ends
    if not line.isfinite().all():
        raise ValueError(
            f"There is no interpolation between {run.start.value:g} at frame {run.start.last} and {run.end.value:g} "
            f"at frame {run.end.first}: too large a number. Put ':' behind the index {run.start.last} to hold its "
            "value, or write smaller numbers."
        )
    return line


def whole_numbers(values: list[float]) -> list[int]:
    """Rounded, halves to the even number; infinity becomes the largest number that an INT holds."""
    return [round(value) if math.isfinite(value) else int(math.copysign(LARGEST_INT, value)) for value in values]


def log_schedule(lines: list[str]) -> None:
    """Write a schedule into the log, one line for each frame."""
    logging.info("[AnimateDiff] Schedule of %d frames:\n%s", len(lines), "\n".join(lines))
