"""Chains of what acts from some place of the sampling schedule on: contexts, keyframes of motion models and of CFG."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from .feature import Step


class Starting(Protocol):
    """Acts from ``start_percent`` of the sampling schedule on, for ``guarantee_steps`` steps at least."""

    @property
    def start_percent(self) -> float: ...

    @property
    def guarantee_steps(self) -> int: ...


Item = TypeVar("Item", bound=Starting)


def chained(items: Iterable[Item], previous: Iterable[Item] = ()) -> tuple[Item, ...]:
    """``items`` behind those of ``previous`` that start with them or before them."""
    return tuple(sorted((*previous, *items), key=lambda item: item.start_percent))


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
