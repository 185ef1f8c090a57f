"""The context extras of a clip, as they travel with its context options."""

from dataclasses import dataclass

from .context_ref import ContextRef
from .extra import Extra
from .naive_reuse import NaiveReuse


@dataclass(frozen=True, eq=False)
class ContextExtras:
    """One of each kind at most."""

    context_ref: ContextRef | None = None
    naive_reuse: NaiveReuse | None = None

    def extras(self) -> tuple[Extra, ...]:
        return tuple(extra for extra in (self.context_ref, self.naive_reuse) if extra is not None)
