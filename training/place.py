"""Which of the processes of a training this one is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Which of ``count`` processes this is, counted from 0; ``commanded``: by training/cli.py, and not in the graph."""

    rank: int = 0
    count: int = 1
    commanded: bool = False

    @property
    def first(self) -> bool:
        """The one that writes, draws, measures and tells."""
        return self.rank == 0


_here = Place()


def here() -> Place:
    return _here


@contextmanager
def standing(place: Place) -> Iterator[Place]:
    """Inside the ``with``, this process is at ``place``."""
    global _here
    before, _here = _here, place
    try:
        yield place
    finally:
        _here = before


def problem_of_batch(batch: int, processes: int) -> str | None:
    """Why ``batch`` cannot be shared among ``processes``, and what to do; None if it can."""
    if batch % processes == 0:
        return None
    return (
        f"batch is {batch}, but {processes} processes share it, each with as many clips as the others. Set batch to a multiple "
        f"of {processes}."
    )
