"""One row of the table of claims."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One row of the table. ``more`` says whether higher numbers are better."""

    claim: str
    measure: str
    value: float
    must: float | None = None
    target: float | None = None
    more: bool = True

    def reaches(self, limit: float | None) -> bool:
        return limit is None or (self.value >= limit if self.more else self.value <= limit)

    @property
    def verdict(self) -> str:
        if not self.reaches(self.must):
            return "MISSED"
        return "" if self.must is None else "target" if self.reaches(self.target) else "must"
