"""The judgement of an experiment, and how long an outage lasted."""

import math

import pytest

from load.core.checks import Outcome
from load.core.generator import Result
from load.core.limits import Limit
from load.core.sender import Sample
from load.faults.overload import growth
from load.faults.process_kill import back_seconds
from load.faults.reports import Report, Row, all_answered

NONE = dict.fromkeys(Outcome, 0)


def row(**counts: int) -> Row:
    return Row("part", "grpc", NONE | {Outcome(name): count for name, count in counts.items()})


def test_answers_refusals_and_failures_are_no_faults_by_themselves() -> None:
    assert Report("x", [row(answered=5, refused=3, failed=2, lost=1)], []).faults() == []


@pytest.mark.parametrize("outcome", ["wrong", "hung"])
def test_wrong_and_hung_always_are(outcome: str) -> None:
    (fault,) = Report("x", [row(answered=5), row(**{outcome: 1})], []).faults(timing=False)
    assert f"1 {outcome}" in fault


def test_a_missed_limit_is_a_fault() -> None:
    limits = [Limit("most", 2, 1), Limit("least", 1, 2, at_least=True), Limit("not a number", math.nan, 1)]
    assert len(Report("x", [], limits).faults()) == 3
    assert Report("x", [], [Limit("most", 1, 1), Limit("least", 2, 2, at_least=True)]).faults() == []


def test_limits_of_time_can_be_left_out() -> None:
    report = Report("x", [], [Limit("most", 2, 1, timing=True)])
    assert report.faults()
    assert report.faults(timing=False) == []


def test_the_table_has_all_outcomes_and_what_was_missed() -> None:
    table = Report("x", [row(answered=5)], [Limit("most", 2, 1)]).table()
    assert all(outcome.value in table for outcome in Outcome)
    assert "MISSED most" in table


def test_all_but_right_answers_are_missing() -> None:
    rows = [row(answered=9, refused=1, failed=2, lost=3, wrong=4, hung=5)]
    assert all_answered("x", rows).measured == 15
    assert all_answered("x", rows, or_refused=True).measured == 14
    assert all_answered("x", [row(answered=9, refused=1)], or_refused=True).held


def test_a_row_counts_the_whole_run() -> None:
    samples = [Sample(0.0, 0.5, Outcome.ANSWERED), Sample(2.0, 0.1, Outcome.REFUSED, note="full")]
    made = Row.of("part", "http", Result(samples, 0.0, 1.0, 3.0))
    assert (made.counts[Outcome.ANSWERED], made.counts[Outcome.REFUSED]) == (1, 1)
    assert made.figures["answered_p99_ms"] == 500
    assert made.notes == ["1x refused: full"]


def answered(start: float, end: float) -> Sample:
    return Sample(start, end - start, Outcome.ANSWERED)


def test_back_after_the_last_failure() -> None:
    steady = [answered(t / 10, t / 10 + 0.05) for t in range(10)]
    failures = [Sample(1.0 + t, 0.5, Outcome.FAILED) for t in range(3)]  # the last one ends at 3.5
    later = [answered(3.6 + t / 10, 3.65 + t / 10) for t in range(10)]
    assert back_seconds([*steady, *failures, *later], blow=1.0) == pytest.approx(2.65)


def test_back_after_a_wait_that_ended_well() -> None:
    """The gateway asks again by itself: nothing fails, one request takes long."""
    later = [answered(6.0 + t / 10, 6.05 + t / 10) for t in range(10)]
    assert back_seconds([answered(0.9, 1.1), answered(1.1, 6.0), *later], blow=1.0) == pytest.approx(5.0)


def test_never_back() -> None:
    assert back_seconds([answered(1.0, 1.2), Sample(2.0, 0.1, Outcome.LOST)], blow=1.0) == math.inf
    assert back_seconds([], blow=1.0) == math.inf


def test_growth_compares_the_end_with_the_middle() -> None:
    assert growth([50, 80, 100, 100, 100, 110, 120, 130]) > 0.1
    assert growth([10, 50, 100, 100, 101, 100]) == pytest.approx(0.005)
    assert growth([100]) == 0
