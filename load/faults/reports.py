"""What an experiment found: requests by how they ended, and the limits it was held to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from load.core.checks import Outcome
from load.core.generator import Result
from load.core.limits import Limit

NEVER = (Outcome.WRONG, Outcome.HUNG)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was done, over which protocol, how they ended."""

    part: str
    protocol: str
    counts: Mapping[Outcome, int]
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @staticmethod
    def of(part: str, protocol: str, result: Result, **figures: float) -> "Row":
        """A row of all requests of a run, with its latencies."""
        for name, outcome in (("answered", Outcome.ANSWERED), ("refused", Outcome.REFUSED)):
            for percentile, milliseconds in (result.latency_ms(outcome) or {}).items():
                figures[f"{name}_{percentile}_ms"] = milliseconds
        return Row(part, protocol, result.totals(), figures, result.notes())


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
        lines = [f"{self.name:<34}{'way':<9}" + "".join(f"{outcome.value:>10}" for outcome in Outcome)]
        for row in self.rows:
            counts = "".join(f"{row.counts[outcome]:>10}" for outcome in Outcome)
            lines.append(f"  {row.part:<32}{row.protocol:<9}{counts}")
            if row.figures:
                lines.append("      " + ", ".join(f"{name} {value:.6g}" for name, value in row.figures.items()))
            lines += [f"      {note}" for note in row.notes]
        return "\n".join([*lines, *(f"  {limit}" for limit in self.limits)])

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self) | {"faults": self.faults()}


def rows_of(part: str, results: Mapping[str, Result], **figures: float) -> list[Row]:
    """A row for each protocol."""
    return [Row.of(part, protocol, result, **figures) for protocol, result in results.items()]


def all_answered(about: str, rows: Iterable[Row], *, or_refused: bool = False) -> Limit:
    """A limit that no request of these rows may miss: its right answer, or where the fault is a load too, a refusal."""
    fine = {Outcome.ANSWERED, Outcome.REFUSED} if or_refused else {Outcome.ANSWERED}
    missing = sum(count for row in rows for outcome, count in row.counts.items() if outcome not in fine)
    return Limit(f"{about}: neither answered nor refused" if or_refused else f"{about}: not answered", missing, 0)
