"""The judgement of a soak: a leak is found, noise and a warm-up are not taken for one."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from load.core.checks import Outcome
from load.faults.reports import Row
from load.faults.soak import TOLERANCES, Soak, write
from load.faults.trends import Tolerance, judge

MOMENTS = [10.0 * number for number in range(180)]  # half an hour
SHORT = [2.0 * number for number in range(60)]  # two minutes
TOLERANCE = Tolerance(16.0, 0.01)


def noise(count: int, seed: int, deviation: float = 3.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, deviation, count)


@pytest.mark.parametrize("moments", [MOMENTS, SHORT])
def test_a_leak_is_found_under_noise(moments: list[float]) -> None:
    leak = 1000 + 60 * np.array(moments) / moments[-1] + noise(len(moments), 0)
    trend = judge(moments, leak.tolist(), TOLERANCE)
    assert trend.growing
    assert trend.growth == pytest.approx(40, abs=8)  # of 60 over the whole run: it is judged on two thirds


@pytest.mark.parametrize("seed", range(50))
def test_noise_is_no_growth(seed: int) -> None:
    """Of noise alone one in a hundred passes the test, and then for a growth far below any tolerance."""
    assert not judge(MOMENTS, (1000 + noise(len(MOMENTS), seed)).tolist(), TOLERANCE).growing


@pytest.mark.parametrize("seed", range(20))
def test_a_random_walk_within_the_tolerance_is_no_growth(seed: int) -> None:
    """Allocators take and give back: what was held a moment ago is likely to be held now."""
    walk = np.clip(np.cumsum(noise(len(MOMENTS), seed, 1.0)), -5, 5)
    assert not judge(MOMENTS, (1000 + walk).tolist(), TOLERANCE).growing


def test_a_warm_up_is_no_growth() -> None:
    warm_up = 1000 - 500 * np.exp(-np.array(MOMENTS) / 60)
    assert not judge(MOMENTS, warm_up.tolist(), TOLERANCE).growing


def test_steps_are_growth() -> None:
    """A descriptor lost every few minutes: most values are ties."""
    steps = [100.0 + moment // 200 for moment in MOMENTS]
    assert judge(MOMENTS, steps, TOLERANCES["triton_descriptors"]).growing


def test_outliers_are_no_growth() -> None:
    values = 50 + noise(len(MOMENTS), 1)
    values[-10:-5] += 5000
    assert not judge(MOMENTS, values.tolist(), TOLERANCES["p99_ms"]).growing


def test_a_constant_is_no_growth_and_a_fall_neither() -> None:
    assert not judge(MOMENTS, [7.0] * len(MOMENTS), Tolerance(0.0)).growing
    assert not judge(MOMENTS, [1000 - moment for moment in MOMENTS], Tolerance(0.0)).growing


def test_too_few_values_tell_nothing() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        judge(MOMENTS[:9], [1.0] * 9, TOLERANCE)


def run(**series: list[float]) -> Soak:
    steady = {name: [50.0] * len(MOMENTS) for name in TOLERANCES}
    return Soak([row(Outcome.ANSWERED)], MOMENTS, steady | series)


def row(outcome: Outcome) -> Row:
    return Row("70 % of the knee", "grpc", dict.fromkeys(Outcome, 0) | {outcome: 100})


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_soak_fails_by_each_series(name: str) -> None:
    assert run().report().faults() == []
    (fault,) = run(**{name: [50.0 + moment / 10 for moment in MOMENTS]}).report().faults()
    assert name in fault


@pytest.mark.parametrize("outcome", [Outcome.WRONG, Outcome.HUNG, Outcome.FAILED, Outcome.LOST])
def test_a_soak_fails_by_each_bad_outcome(outcome: Outcome) -> None:
    bad = Soak([row(Outcome.ANSWERED), row(outcome)], MOMENTS, run().series).report()
    assert "MISSED all: neither answered nor refused: 100 (at most 0)" in bad.faults()[-1]
    assert [limit.name for limit in bad.limits if not limit.held] == ["all: neither answered nor refused"]


def test_moments_without_an_answer_are_left_out() -> None:
    gaps = [float("nan") if number % 3 else 50.0 + moment for number, moment in enumerate(MOMENTS)]
    assert run(p99_ms=gaps).trends()["p99_ms"].growing


def test_everything_is_written(tmp_path: Path) -> None:
    write(run(), tmp_path)
    assert json.loads((tmp_path / "soak.json").read_text())["faults"] == []
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == 1 + len(MOMENTS)
    assert Image.open(tmp_path / "soak.png").width > 500
