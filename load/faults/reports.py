"""What an experiment found: requests by how they ended, and the limits it was held to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from load.core.checks import Outcome
from load.core.generator import Result

NEVER = (Outcome.WRONG, Outcome.HUNG)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was done, over which protocol, how they ended.

    `back_seconds` is how long after the blow right answers flowed again; None where there was no blow.
    """

    part: str
    protocol: str
    counts: Mapping[Outcome, int]
    back_seconds: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @staticmethod
    def of(part: str, protocol: str, result: Result, *, back_seconds: float | None = None, **figures: float) -> "Row":
        """A row of all requests of a run, with its latencies."""
        for name, outcome in (("answered", Outcome.ANSWERED), ("refused", Outcome.REFUSED)):
            for percentile, milliseconds in (result.latency_ms(outcome) or {}).items():
                figures[f"{name}_{percentile}_ms"] = milliseconds
        return Row(part, protocol, result.totals(), back_seconds, figures, result.notes())


@dataclass(frozen=True)
class Limit:
    """A bound and what was measured; `timing` says that a slow or busy machine may miss it with nothing broken."""

    name: str
    measured: float
    bound: float
    at_least: bool = False
    timing: bool = False

    @property
    def held(self) -> bool:
        """Whether it was. Not a number never is."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'held' if self.held else 'MISSED'}: {self.name}: {self.measured:.6g} (limit {sign} {self.bound:.6g})"


@dataclass(frozen=True)
class Report:
    """One experiment."""

    name: str
    rows: Sequence[Row]
    limits: Sequence[Limit]

    def faults(self, *, timing: bool = True) -> list[str]:
        """What must not be: wrong and hung requests, and limits that were missed; without `timing`, none of those."""
        never = [
            f"{row.part}, {row.protocol}: {row.counts[outcome]} {outcome.value} ({'; '.join(row.notes)})"
            for row, outcome in product(self.rows, NEVER)
            if row.counts[outcome]
        ]
        return never + [str(limit) for limit in self.limits if not limit.held and (timing or not limit.timing)]

    def table(self) -> str:
        """The rows and limits for people."""
        columns = [outcome.value for outcome in Outcome]
        lines = [f"{self.name:<34}{'way':<9}" + "".join(f"{column:>10}" for column in columns) + f"{'back, s':>10}"]
        for row in self.rows:
            counts = "".join(f"{row.counts[outcome]:>10}" for outcome in Outcome)
            back = "-" if row.back_seconds is None else f"{row.back_seconds:.1f}"
            lines.append(f"  {row.part:<32}{row.protocol:<9}{counts}{back:>10}")
            if row.figures:
                lines.append("      " + ", ".join(f"{name} {value:.6g}" for name, value in row.figures.items()))
            lines += [f"      {note}" for note in row.notes]
        return "\n".join([*lines, *(f"  {limit}" for limit in self.limits)])

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "rows": [
                {
                    "part": row.part,
                    "way": row.protocol,
                    "counts": {outcome.value: row.counts[outcome] for outcome in Outcome},
                    "back_seconds": row.back_seconds,
                    "figures": dict(row.figures),
                    "notes": list(row.notes),
                }
                for row in self.rows
            ],
            "limits": [
                {"name": limit.name, "measured": limit.measured, "bound": limit.bound, "held": limit.held}
                for limit in self.limits
            ],
            "faults": self.faults(),
        }


def unanswered(rows: Iterable[Row], *, but_refused: bool = False) -> int:
    """Requests of all rows that got no right answer: for those beside a fault which must not touch them.

    `but_refused` leaves out the refused ones, where the fault is a load too.
    """
    fine = {Outcome.ANSWERED, Outcome.REFUSED} if but_refused else {Outcome.ANSWERED}
    return sum(count for row in rows for outcome, count in row.counts.items() if outcome not in fine)
