"""The weights that a training hands on: the last ones, or an average of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

# A way to stand in: inside the ``with``, the parameters are the weights that are handed on.
HandedOn = Callable[[], AbstractContextManager[None]]


class MovingAverage:
    """An exponential moving average of ``parameters`` (Polyak averaging, as in Ho et al., arXiv 2006.11239, appendix B).

    After n steps the decay is at most ``(1 + n) / (10 + n)``, so that the first weights are soon forgotten.
    The last step counts once the next loss has shown that it was no bad one.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], decay: float):
        self.parameters, self.decay = parameters, decay
        self.average = [parameter.detach().clone() for parameter in parameters]
        self.steps, self.pending = 0, False

    def stepped(self) -> None:
        self.pending = True

    def confirm(self) -> None:
        """The weights at hand gave a loss that is a number."""
        if self.pending:
            with torch.no_grad():
                for average, parameter in zip(self.average, self.parameters, strict=True):
                    average.lerp_(parameter, 1 - self._decay_of_next())
            self.steps, self.pending = self.steps + 1, False

    def undo(self) -> None:
        self.pending = False

    def _decay_of_next(self) -> float:
        return min(self.decay, (2 + self.steps) / (11 + self.steps))

    @contextmanager
    def handed_on(self) -> Iterator[None]:
        weight = 1 - self._decay_of_next()
        with restored(self.parameters):
            with torch.no_grad():
                for average, parameter in zip(self.average, self.parameters, strict=True):
                    parameter.copy_(torch.lerp(average, parameter, weight) if self.pending else average)
            yield

    def state(self) -> dict:
        return {"average": self.average, "steps": self.steps, "pending": self.pending}

    def resume(self, state: dict) -> None:
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.steps, self.pending = state["steps"], state["pending"]


@contextmanager
def restored(parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """What the block makes of ``parameters`` is gone at its end. They wait in main memory, bit for bit."""
    kept = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)


@contextmanager
def evaluated(optimizer, parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """For optimisers that average the weights themselves (Defazio et al., arXiv 2405.15682): inside, those are in place."""
    with restored(parameters):
        optimizer.eval()
        try:
            yield
        finally:
            optimizer.train()
