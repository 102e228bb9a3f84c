"""What a scenario must hold: limits from `thresholds.toml`, figures of a run, and a verdict on each limit. Pure."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from load.users.tables import Table, TableError

THRESHOLDS = Path(__file__).with_name("thresholds.toml")


class ThresholdError(TableError):
    """A threshold that cannot be meant; `table` is the scenario, `key` what is wrong."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of one scenario; those that are None are not looked at.

    Times are in milliseconds, of all requests together, failures too. `error_share` is failures per request, at most;
    `throughput` right answers per second, at least.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_share: float | None = None
    throughput: float | None = None


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


@dataclass(frozen=True)
class Verdict:
    """One limit and what was found; `found` is None where nothing could be measured, which holds no limit."""

    name: str
    limit: float
    found: float | None

    @property
    def held(self) -> bool:
        """Whether the limit was held."""
        if self.found is None:
            return False
        return self.found >= self.limit if self.name == "throughput" else self.found <= self.limit

    def __str__(self) -> str:
        found = "nothing measured" if self.found is None else f"{self.found:.4g}"
        relation = "at least" if self.name == "throughput" else "at most"
        return f"{'held  ' if self.held else 'MISSED'} {self.name:<12} {found:>16}   {relation} {self.limit:g}"


def read_thresholds(path: Path = THRESHOLDS) -> dict[str, Thresholds]:
    """The limits of every scenario in a file, by the scenario's name."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ThresholdError(path.name, "file", str(error)) from error
    return {name: parse_thresholds(name, values) for name, values in document.items()}


def parse_thresholds(name: str, values: object) -> Thresholds:
    """The limits of one scenario, from its table."""
    table = Table(name, values, ThresholdError)
    most = {"error_share": 1.0}
    limits = {
        field.name: table.number(field.name, most=most.get(field.name, 1e9))
        for field in fields(Thresholds)
        if table.has(field.name)
    }
    table.done()
    if not limits:
        raise table.fault("table", "states no limit")
    times = [limits[key] for key in ("p50_ms", "p95_ms", "p99_ms") if key in limits]
    if times != sorted(times):
        raise table.fault("p99_ms", "a higher percentile has a lower limit")
    return Thresholds(**limits)


def judge(thresholds: Thresholds, figures: Figures) -> list[Verdict]:
    """A verdict on every limit that is stated."""
    limits = {field.name: getattr(thresholds, field.name) for field in fields(Thresholds)}
    return [Verdict(name, limit, getattr(figures, name)) for name, limit in limits.items() if limit is not None]


def all_held(verdicts: Sequence[Verdict]) -> bool:
    """Whether no limit was missed."""
    return all(verdict.held for verdict in verdicts)
