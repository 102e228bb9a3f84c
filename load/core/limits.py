"""A bound, what was measured, and whether it was held."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A bound and what was measured, None where nothing could be, which holds no limit.

    `timing` says that a slow or busy machine may miss it with nothing broken.
    """

    name: str
    measured: float | None
    bound: float
    at_least: bool = False
    timing: bool = False

    @property
    def held(self) -> bool:
        """Whether it was. Not a number never is."""
        if self.measured is None:
            return False
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        found = "nothing measured" if self.measured is None else f"{self.measured:.6g}"
        relation = "at least" if self.at_least else "at most"
        return f"{'held  ' if self.held else 'MISSED'} {self.name}: {found} ({relation} {self.bound:.6g})"
