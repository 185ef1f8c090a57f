"""Places at some frames, and the way between them: what boxes and cameras have in common."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ...host.told import Told
from ..schedules.interpolation import METHODS, interpolated

FARTHEST = 2.0  # of a place, in pictures: what leaves the picture goes on outside


class PathError(Told, ValueError):
    """A path that cannot be made; the message says what to change."""


class Place(Protocol):
    """A box, or what a camera sees: numbers between which there is a way."""

    @property
    def numbers(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Key:
    """The place at a frame; ``ease`` is how it goes on to the next one (``schedules/interpolation.py``)."""

    frame: int
    place: Place
    ease: str = METHODS[0]


def check_keys(keys: Sequence[Key]) -> None:
    """Raise PathError unless there are some, at ascending frames."""
    frames = [key.frame for key in keys]
    if not frames or sorted(set(frames)) != frames:
        raise PathError("A path needs at least one place, and its frames must ascend.")


def between(keys: Sequence[Key], frames: int) -> torch.Tensor:
    """The numbers of each frame ``(frames, numbers)``: as at the nearest key outside of them, on the way between."""
    starts = [key.frame for key in keys]
    return torch.stack([_between(keys, bisect_right(starts, frame) - 1, frame) for frame in range(frames)])


def _between(keys: Sequence[Key], i: int, frame: int) -> torch.Tensor:
    key = keys[max(0, i)]
    here = torch.tensor(key.place.numbers)
    if i < 0 or i + 1 == len(keys):
        return here
    following = keys[i + 1]
    share = interpolated(0.0, 1.0, following.frame - key.frame + 1, key.ease)[frame - key.frame]
    return torch.lerp(here, torch.tensor(following.place.numbers), share)
