"""From the entries of a schedule to every frame of the clip (docs/behaviour.md, "Scheduled texts")."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import comfy.model_management
import torch

from .grammar import Entry, ScheduledText
from .text_error import cut

LARGEST_INT = 9007199254740991  # of JSON, and of INT widgets
# Entries that go forwards and backwards fill frames again and again. Five times the longest schedule takes seconds.
MOST_FILLED = 5_000_000
# Of a schedule in the log: more than anyone reads, and than a console shows.
MOST_LINES, LONGEST_LINE = 1000, 1000


@dataclass(frozen=True)
class Run:
    """Neighbouring frames, in the order in which they are filled, on the way from one entry to another.

    From one to itself: its value for all of them. Otherwise the first frame is ``start`` and the last one ``end``.
    """

    frames: range
    start: Entry
    end: Entry

    def within(self, frames: int) -> slice:
        """Which items of this run lie in a clip of so many frames."""
        if self.frames.step > 0:
            return slice(max(0, frames - self.frames.start))
        return slice(max(0, self.frames.start - frames + 1), None)


def runs(schedule: ScheduledText) -> Iterator[Run]:
    """What the entries say, in their order: later runs replace earlier ones.

    Together they cover the frames from 0 up to some frame that may lie before or behind the end of the clip. Heeds Stop.
    Raises ValueError for entries that fill more than MOST_FILLED frames together.
    """
    filled = 0
    for run in _runs(schedule):
        comfy.model_management.throw_exception_if_processing_interrupted()
        filled += len(run.frames)
        if filled > MOST_FILLED:
            raise ValueError(
                f"The entries of the schedule go forwards and backwards over more than {MOST_FILLED} frames in all. Write "
                "them in ascending order, and with smaller indices."
            )
        yield run


def _runs(schedule: ScheduledText) -> Iterator[Run]:
    previous, *others = schedule.entries
    yield Run(range(previous.last + 1), previous, previous)
    for entry in others:
        first = entry.first
        if previous.hold:
            yield Run(range(previous.last + 1, first), previous, previous)
        elif first not in (previous.last, previous.last + 1):
            step = 1 if first > previous.last else -1
            yield Run(range(previous.last, first + step, step), previous, entry)
            first += 1
        yield Run(range(first, entry.last + 1), entry, entry)
        previous = entry


def values_per_frame(schedule: ScheduledText) -> list[float]:
    """One number for each frame of the clip. Frames behind the last that the schedule reaches repeat its value.

    Between entries it is linear, in float32 (0.3 becomes 0.30000001192092896); elsewhere numbers stay as written.
    """
    filled: dict[int, float] = {}
    for run in runs(schedule):
        inside = run.within(schedule.frames)
        if run.start is run.end:
            filled.update({frame: run.end.value for frame in run.frames[inside]})
        else:
            filled.update(zip(run.frames[inside], _line(run)[inside].tolist(), strict=True))
    last = filled[max(filled)]
    return [filled.get(frame, last) for frame in range(schedule.frames)]


def _line(run: Run) -> torch.Tensor:
    ends = torch.tensor([run.start.value, run.end.value], dtype=torch.float64).float()
    line = (
        torch.linspace(float(ends[0]), float(ends[1]), len(run.frames), dtype=torch.float32)
        if ends.isfinite().all()
        else ends
    )
    if not line.isfinite().all():
        raise ValueError(
            f"There is no interpolation between {run.start.value:g} at frame {run.start.last} and {run.end.value:g} "
            f"at frame {run.end.first}: too large a number. Put ':' behind the index {run.start.last} to hold its "
            "value, or write smaller values."
        )
    return line


def whole_numbers(values: list[float]) -> list[int]:
    """Rounded, halves to the even number; infinity becomes the largest number that an INT holds."""
    return [round(value) if math.isfinite(value) else int(math.copysign(LARGEST_INT, value)) for value in values]


def log_schedule(frames: int, line: Callable[[int], str]) -> None:
    """Write a schedule into the log: ``line`` of each frame, of a long one the first MOST_LINES."""
    lines = [cut(line(frame), LONGEST_LINE) for frame in range(min(frames, MOST_LINES))]
    if frames > MOST_LINES:
        lines.append(f"and {frames - MOST_LINES} more frames")
    logging.info("[AnimateDiff] Schedule of %d frames:\n%s", frames, "\n".join(lines))
