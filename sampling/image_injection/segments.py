"""The steps after which a run stops for a picture: its schedule in segments."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Sigmas ``first`` to ``last`` of a run, both of them included: the next segment begins with the last.

    ``entry``: which picture is laid in at the end of it; None at the end of the run.
    """

    first: int
    last: int
    entry: int | None


def segments(timesteps: Sequence[float], starts: Sequence[float], steps: Sequence[int]) -> list[Segment]:
    """The segments of a run whose sigmas have these ``timesteps``, in descending order.

    Picture i is laid in as soon as the run comes to timestep ``starts[i]``, and again after each of the ``steps[i] - 1``
    steps that follow. At least one step comes before the first picture, and one behind the last. Pictures that start
    outside of the run are left out.
    """
    found, first, last = [], 0, len(timesteps) - 1
    for entry, (start, times) in enumerate(zip(starts, steps, strict=True)):
        if not timesteps[-1] <= start <= timesteps[0]:
            continue
        for _ in range(min(times, last)):
            stop = next((i for i in range(first + 1, last) if timesteps[i] <= start), None)
            if stop is None:
                break
            found.append(Segment(first, stop, entry))
            first = stop
    return [*found, Segment(first, last, None)]
