"""What a run came to: figures from Locust's statistics, as JSON for programs and as lines for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from locust.stats import RequestStats, StatsEntry, StatsError

from load.core.checks import Outcome
from load.core.limits import Limit
from load.users.scenarios import Scenario
from load.users.thresholds import Figures

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def figures_of(stats: RequestStats) -> Figures:
    """The figures of all requests together. Locust rounds times to two digits from 100 ms on."""
    total = stats.total
    if total.num_reqs_per_sec:  # rates begin at the first request: Locust begins before right answers are asked for
        total.start_time = float(min(total.num_reqs_per_sec))
    seconds = (total.last_request_timestamp or total.start_time) - total.start_time
    return Figures(total.num_requests, total.num_failures, seconds, **_percentiles(total))


def report(scenario: Scenario, stats: RequestStats, figures: Figures, limits: Sequence[Limit]) -> dict[str, Any]:
    """The whole report. Its keys are for programs: they stay."""
    return {
        "scenario": scenario.model_dump(),
        "passed": all(limit.held for limit in limits),
        "figures": asdict(figures) | {"error_share": figures.error_share, "throughput": figures.throughput},
        "outcomes": _outcomes(stats),
        "thresholds": [
            {"name": each.name, "limit": each.bound, "found": each.measured, "held": each.held} for each in limits
        ],
        "requests": [_entry(entry) for entry in stats.entries.values()],
        "errors": [
            {"way": error.method, "task": error.name, "error": _text(error), "count": error.occurrences}
            for error in stats.errors.values()
        ],
    }


def _outcomes(stats: RequestStats) -> dict[str, int]:
    """Requests by how they ended."""
    counts = Counter({Outcome.ANSWERED.value: stats.total.num_requests - stats.total.num_failures})
    for error in stats.errors.values():
        counts[_text(error).partition(":")[0]] += error.occurrences
    return {outcome.value: counts[outcome.value] for outcome in Outcome}


def _entry(entry: StatsEntry) -> dict[str, Any]:
    return {
        "way": entry.method,
        "task": entry.name,
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        **_percentiles(entry),
        "max_ms": entry.max_response_time,
        "requests_per_s": entry.total_rps,
    }


def _percentiles(entry: StatsEntry) -> dict[str, float | None]:
    found = entry.get_response_time_percentile if entry.num_requests else lambda _share: None
    return {name: found(share) for name, share in PERCENTILES.items()}


def _text(error: StatsError) -> str:
    return StatsError.parse_error(error.error)
