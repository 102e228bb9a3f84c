"""What a run came to: figures from Locust's statistics, as JSON for programs and as lines for people."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from locust.stats import RequestStats, StatsEntry, StatsError

from load.core.checks import Outcome
from load.users.scenarios import Scenario
from load.users.thresholds import Figures, Verdict, all_held

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def count_from_first_request(stats: RequestStats) -> None:
    """Have rates begin at the first request: Locust begins before the right answers are asked for."""
    if stats.total.num_reqs_per_sec:
        stats.total.start_time = float(min(stats.total.num_reqs_per_sec))


def figures_of(stats: RequestStats) -> Figures:
    """The figures of all requests together. Locust rounds times to two digits from 100 ms on."""
    total = stats.total
    seconds = (total.last_request_timestamp or total.start_time) - total.start_time
    return Figures(total.num_requests, total.num_failures, seconds, **_percentiles(total))


def report(scenario: Scenario, stats: RequestStats, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The whole report. Its keys are for programs: they stay."""
    figures = figures_of(stats)
    return {
        "scenario": scenario.model_dump(),
        "passed": all_held(verdicts),
        "figures": asdict(figures) | {"error_share": figures.error_share, "throughput": figures.throughput},
        "outcomes": _outcomes(stats),
        "thresholds": [asdict(verdict) | {"held": verdict.held} for verdict in verdicts],
        "requests": [_entry(entry) for entry in stats.entries.values()],
        "errors": [
            {"way": error.method, "task": error.name, "error": _text(error), "count": error.occurrences}
            for error in stats.errors.values()
        ],
    }


def write(document: dict[str, Any], path: Path) -> None:
    """Write a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


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
