"""What a scenario must hold: limits from `thresholds.toml`, figures of a run, and a verdict on each limit. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from load.core.limits import Limit
from load.users.tables import Table, TableError, parse_table, read_tables

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
NotNegative = Annotated[float, Field(ge=0)]


class Thresholds(Table):
    """Limits of one scenario; those that are None are not looked at.

    Times are in milliseconds, of all requests together, failures too. `error_share` is failures per request, at most;
    `throughput` right answers per second, at least.
    """

    p50_ms: NotNegative | None = None
    p95_ms: NotNegative | None = None
    p99_ms: NotNegative | None = None
    error_share: Annotated[float, Field(ge=0, le=1)] | None = None
    throughput: NotNegative | None = None


@dataclass(frozen=True)
class Figures:
    """What a run came to. Times are None where no request was made."""

    requests: int
    failures: int
    seconds: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def error_share(self) -> float | None:
        """Failures per request."""
        return self.failures / self.requests if self.requests else None

    @property
    def throughput(self) -> float:
        """Right answers per second, from the first request to the last answer."""
        return (self.requests - self.failures) / self.seconds if self.seconds > 0 else 0.0


def read_thresholds(path: Path = THRESHOLDS) -> dict[str, Thresholds]:
    """The limits of every scenario in a file, by the scenario's name."""
    return {name: parse_thresholds(name, values) for name, values in read_tables(path).items()}


def parse_thresholds(name: str, values: Any) -> Thresholds:
    """The limits of one scenario, from its table."""
    limits = parse_table(Thresholds, name, values)
    if not limits.model_fields_set:
        raise TableError(name, "table", "states no limit")
    times = [time for time in (limits.p50_ms, limits.p95_ms, limits.p99_ms) if time is not None]
    if times != sorted(times):
        raise TableError(name, "p99_ms", "a higher percentile has a lower limit")
    return limits


def judge(thresholds: Thresholds, figures: Figures) -> list[Limit]:
    """Every limit that is stated, with what was found."""
    stated = thresholds.model_dump(exclude_none=True)
    return [Limit(name, getattr(figures, name), bound, at_least=name == "throughput") for name, bound in stated.items()]
