"""What is computed once for a run, whatever passes it makes: with a picture in the VAE, each pass would wait for it."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from ..feature import Run

Result = TypeVar("Result")


class PerRun(Generic[Result]):
    """It is kept for as long as the run lasts."""

    def __init__(self):
        self.kept: WeakKeyDictionary[Run, Result] = WeakKeyDictionary()

    def get(self, run: Run, compute: Callable[[], Result]) -> Result:
        if run not in self.kept:
            self.kept[run] = compute()
        return self.kept[run]
