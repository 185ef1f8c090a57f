"""Chains of what acts from some place of the sampling schedule on: contexts, keyframes of motion models, CFG, extras."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from .feature import Step
from .schedules.interpolation import interpolated

MOST_LINES = 1000  # of keyframes in the log: more than anyone reads


class Starting(Protocol):
    """Acts from ``start_percent`` of the sampling schedule on, for ``guarantee_steps`` steps at least."""

    @property
    def start_percent(self) -> float: ...

    @property
    def guarantee_steps(self) -> int: ...


class Inheriting(Starting, Protocol):
    """A keyframe, whose values are None where it says nothing."""

    @property
    def inherit_missing(self) -> bool: ...


Item = TypeVar("Item", bound=Starting)
Keyframe = TypeVar("Keyframe", bound=Inheriting)


def chained(items: Iterable[Item], previous: Iterable[Item] = ()) -> tuple[Item, ...]:
    """``items`` behind those of ``previous`` that start with them or before them."""
    return tuple(sorted((*previous, *items), key=lambda item: item.start_percent))


def evenly(start: float, end: float, values: Sequence[float], make: Callable[..., Item]) -> tuple[Item, ...]:
    """One keyframe for each of ``values``, evenly from percent ``start`` to ``end``; the first one lasts a step at least.

    ``make(value, start_percent=, guarantee_steps=)`` makes each.
    """
    percents = interpolated(start, end, len(values), "linear").tolist()
    return tuple(
        make(value, start_percent=percent, guarantee_steps=int(i == 0))
        for i, (percent, value) in enumerate(zip(percents, values, strict=True))
    )


def log_keyframes(what: str, keyframes: Iterable[tuple[float, object]]) -> None:
    """One line for each ``(start percent, value)``; ``what`` the values are."""
    keyframes = list(keyframes)
    for percent, value in keyframes[:MOST_LINES]:
        logging.info("[AnimateDiff] %s %s from %.3f", what, value, percent)
    if len(keyframes) > MOST_LINES:
        logging.info("[AnimateDiff] and %d more keyframes", len(keyframes) - MOST_LINES)


def from_the_start(keyframes: Sequence[Keyframe], first: Keyframe) -> tuple[Keyframe, ...]:
    """The keyframes in order. Where none begins at 0, ``first``, which changes nothing, does."""
    return (*(() if any(keyframe.start_percent == 0.0 for keyframe in keyframes) else (first,)), *keyframes)


def inherited(keyframes: Iterable[Keyframe], names: Iterable[str]) -> tuple[Keyframe, ...]:
    """``keyframes`` with what each lacks of its fields ``names`` from the one before, where it inherits."""
    found: list[Any] = []
    for keyframe in keyframes:
        values = {name: getattr(keyframe, name) for name in names}
        if found and keyframe.inherit_missing:
            values = {name: getattr(found[-1], name) if value is None else value for name, value in values.items()}
        found.append(replace(keyframe, **values))  # pyright: ignore[reportArgumentType] - keyframes are dataclasses
    return tuple(found)


def start_sigmas(items: Iterable[Starting], model_sampling) -> list[float]:
    return [float(model_sampling.percent_to_sigma(item.start_percent)) for item in items]


class InForce:
    """Walks through a chain in one pass, each item kept for as many steps as it is guaranteed.

    An item whose start lies above the schedule's first sigma is passed over as soon as another one starts: of several
    items at percent 0 the last one counts at once.
    """

    def __init__(self, items: Sequence[Starting], starts: Sequence[float], first_sigma: float, index: int = 0):
        """``starts``: a sigma for each of ``items``; ``first_sigma``: the highest of the run.

        ``index``: the item in force before the first step; -1 for none.
        """
        self.starts = starts
        self.guarantee_steps = [
            0 if start > first_sigma else item.guarantee_steps for item, start in zip(items, starts, strict=True)
        ]
        self.index = index
        self.used = 0
        self.sigma: float | None = None

    def at(self, step: Step) -> int:
        """The index of the item for a call at ``step``. Several calls at one sigma count as one step."""
        if len(self.starts) == 1:
            return 0  # the sigma need not be looked at
        if step.sigma != self.sigma:
            self._advance(step.sigma)
            self.used += 1
            self.sigma = step.sigma
        return max(0, self.index)

    def _advance(self, sigma: float) -> None:
        if self.index >= 0 and self.used < self.guarantee_steps[self.index]:
            return
        for i in range(self.index + 1, len(self.starts)):
            if self.starts[i] < sigma:
                return
            self.index, self.used = i, 0
            if self.guarantee_steps[i] > 0:
                return


class Ranged(Protocol):
    @property
    def start_percent(self) -> float: ...

    @property
    def end_percent(self) -> float: ...


@dataclass(frozen=True)
class ActiveRange:
    """What acts while end_sigma <= sigma <= start_sigma."""

    start_sigma: float
    end_sigma: float

    @classmethod
    def of(cls, settings: Ranged, model_sampling) -> "ActiveRange | None":
        """None for what acts from start to end, so that no sigma need be looked at."""
        if settings.start_percent <= 0.0 and settings.end_percent >= 1.0:
            return None
        to_sigma = model_sampling.percent_to_sigma
        return cls(float(to_sigma(settings.start_percent)), float(to_sigma(settings.end_percent)))

    def holds(self, step: Step) -> bool:
        return self.end_sigma <= step.sigma <= self.start_sigma
