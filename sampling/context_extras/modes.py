"""Which windows of a step leave their features behind for later ones (write), and which look at them (read).

Named as Advanced-ControlNet names the states of its objects, which are told them as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..windows.schedules import Window

OFF, READ, WRITE, READ_WRITE = "off", "read", "write", "read_write"
READS, WRITES = (READ, READ_WRITE), (WRITE, READ_WRITE)


class Mode:
    def states(self, windows: Sequence[Window]) -> list[str]:
        """The state of each of the windows of a step, in the order in which they are computed."""
        raise NotImplementedError


@dataclass(frozen=True)
class First(Mode):
    """All look at the first window."""

    def states(self, windows: Sequence[Window]) -> list[str]:
        return [WRITE if index == 0 else READ for index, _ in enumerate(windows)]


ALL_AT_FIRST = First()


@dataclass(frozen=True)
class Sliding(Mode):
    """A window looks at one that is at most ``width`` - 1 before it: at 2 at its neighbour."""

    width: int = 2

    def states(self, windows: Sequence[Window]) -> list[str]:
        later = [READ if index % (self.width - 1) else READ_WRITE for index in range(1, len(windows))]
        return [WRITE, *later][: len(windows)]


@dataclass(frozen=True)
class Indexes(Mode):
    """A window looks at the last one before it that was the first to hold one of the frames ``indexes``."""

    indexes: frozenset[int] = frozenset()

    def states(self, windows: Sequence[Window]) -> list[str]:
        states, left = [], self.indexes
        for window in windows:
            writes, left = not left.isdisjoint(window), left.difference(window)
            states.append((READ_WRITE if states else WRITE) if writes else READ)
        return states


def sources(windows: Sequence[Window], states: Sequence[str], frames: int) -> list[int] | None:
    """Which frame each frame of a clip looks at where all windows are computed together: at itself, where its window reads none.

    The first window that holds a frame decides. None if none looks at another.
    """
    found: dict[int, int] = {}
    written: Window | None = None
    for window, state in zip(windows, states, strict=True):
        other = written if state in READS else None
        for i, frame in enumerate(window):
            found.setdefault(frame, frame if other is None else other[i % len(other)])
        written = window if state in WRITES else written
    looked_at = [found[frame] for frame in range(frames)]
    return None if looked_at == list(range(frames)) else looked_at


def needed(states: Sequence[str]) -> list[str]:
    """``states`` without what changes nothing: reading what nobody wrote, and writing what nobody reads."""
    found, written = [], False
    for index, state in enumerate(states):
        reads = state in READS and written
        writes = state in WRITES and index + 1 < len(states)  # whatever comes behind it reads
        found.append(READ_WRITE if reads and writes else READ if reads else WRITE if writes else OFF)
        written = written or writes
    return found
