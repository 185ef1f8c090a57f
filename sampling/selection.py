"""Which of several items - contexts, keyframes - is in force at a sampling step."""

from collections.abc import Sequence


class Selection:
    """Walks through items in the order of their start, each kept for as many steps as it is guaranteed.

    An item whose start lies above the schedule's first sigma is passed over as soon as another one starts: of several
    items at percent 0 the last one counts at once.
    """

    def __init__(
        self, start_sigmas: Sequence[float], guarantee_steps: Sequence[int], first_sigma: float, index: int = 0
    ):
        """``first_sigma``: the highest of the run. ``index``: the item in force before the first step; -1 for none."""
        self.start_sigmas = start_sigmas
        self.guarantee_steps = [
            0 if start > first_sigma else steps for start, steps in zip(start_sigmas, guarantee_steps, strict=True)
        ]
        self.index = index
        self.used = 0
        self.sigma: float | None = None

    def at(self, sigma: float) -> int:
        """The index of the item for a call at ``sigma``. Several calls at one sigma count as one step."""
        if sigma != self.sigma:
            self._advance(sigma)
            self.used += 1
            self.sigma = sigma
        return self.index

    def _advance(self, sigma: float) -> None:
        if self.index >= 0 and self.used < self.guarantee_steps[self.index]:
            return
        for i in range(self.index + 1, len(self.start_sigmas)):
            if self.start_sigmas[i] < sigma:
                return
            self.index, self.used = i, 0
            if self.guarantee_steps[i] > 0:
                return
