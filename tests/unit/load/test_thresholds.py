"""Each kind of threshold can be missed, is held by a good run, and cannot be held by a run of nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from load.users.tables import TableError
from load.users.thresholds import Figures, judge, parse_thresholds, read_thresholds

GOOD = Figures(requests=1000, failures=10, seconds=100, p50_ms=20, p95_ms=50, p99_ms=90)
LIMITS = {"p50_ms": 20, "p95_ms": 50, "p99_ms": 90, "error_share": 0.01, "throughput": 9.9}
WORSE = {
    "p50_ms": replace(GOOD, p50_ms=20.1),
    "p95_ms": replace(GOOD, p95_ms=50.1),
    "p99_ms": replace(GOOD, p99_ms=90.1),
    "error_share": replace(GOOD, failures=11, seconds=90),  # a shorter run, so that the throughput is held
    "throughput": replace(GOOD, seconds=100.1),
}


def missed(figures: Figures, **limits: Any) -> list[str]:
    return [verdict.name for verdict in judge(parse_thresholds("mine", limits), figures) if not verdict.held]


def test_a_run_at_its_limits_holds_them_all() -> None:
    verdicts = judge(parse_thresholds("mine", LIMITS), GOOD)
    assert [verdict.name for verdict in verdicts] == list(LIMITS)
    assert all(verdict.held for verdict in verdicts)


@pytest.mark.parametrize("kind", LIMITS)
def test_each_kind_can_be_missed(kind: str) -> None:
    assert missed(WORSE[kind], **LIMITS) == [kind]
    (verdict,) = judge(parse_thresholds("mine", {kind: LIMITS[kind]}), WORSE[kind])
    assert not verdict.held
    assert "MISSED" in str(verdict)
    assert kind in str(verdict)


@pytest.mark.parametrize("kind", LIMITS)
def test_what_is_not_stated_is_not_looked_at(kind: str) -> None:
    others = {name: limit for name, limit in LIMITS.items() if name != kind}
    assert missed(WORSE[kind], **others) == []


@pytest.mark.parametrize("kind", LIMITS)
def test_a_run_of_nothing_holds_nothing(kind: str) -> None:
    nothing = Figures(requests=0, failures=0, seconds=0, p50_ms=None, p95_ms=None, p99_ms=None)
    assert missed(nothing, **LIMITS) == list(LIMITS)
    assert missed(nothing, **{kind: LIMITS[kind]}) == [kind]


def test_throughput_counts_right_answers_alone() -> None:
    assert replace(GOOD, failures=1000).throughput == 0
    assert GOOD.throughput == pytest.approx(9.9)


@pytest.mark.parametrize(
    ("key", "limits"),
    [
        ("p90_ms", {"p90_ms": 1}),
        ("p50_ms", {"p50_ms": -1}),
        ("p50_ms", {"p50_ms": "fast"}),
        ("error_share", {"error_share": 1.5}),
        ("p99_ms", {"p95_ms": 100, "p99_ms": 50}),
        ("table", {}),
        ("table", 7),
    ],
)
def test_what_cannot_be_meant_is_named(key: str, limits: Any) -> None:
    with pytest.raises(TableError) as refused:
        parse_thresholds("mine", limits)
    assert (refused.value.table, refused.value.key) == ("mine", key)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TableError):
        read_thresholds(tmp_path / "none.toml")
