"""The soak in its short form, a minute. What takes half an hour is in docs/performance.md."""

import asyncio
from pathlib import Path

import pytest

from load.core.checks import Outcome
from load.faults.reports import all_answered
from load.faults.service import serve
from load.faults.soak import LEAST_SAMPLES, P99, Soak, soak, write

pytestmark = [pytest.mark.alone, pytest.mark.long]

SECONDS = 60.0


def test_a_minute_leaves_nothing_behind(demo_repository: Path, tmp_path: Path) -> None:
    with serve(demo_repository) as service:
        run = asyncio.run(soak(service, seconds=SECONDS))
        growing = what_grows(run)
        if growing:  # a machine that others slow has ever more under way and buffers to fit; a leak grows again
            growing &= what_grows(asyncio.run(soak(service, seconds=SECONDS)))
    assert all(row.counts[Outcome.ANSWERED] for row in run.rows)
    assert all_answered("soak", run.rows, or_refused=True).held, run.report().table()
    assert len(run.moments) >= LEAST_SAMPLES / 2
    assert growing == set(), run.report().table()
    write(run, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"soak.json", "soak.csv", "soak.png"}


def what_grows(run: Soak) -> set[str]:
    """But for time, which a busy machine takes."""
    return {name for name, trend in run.trends().items() if trend.growing and name != P99}
