"""Users over time, and arrivals: constant, step, spike; Poisson at the rate that was asked for."""

import itertools
import random
from typing import Any

import numpy as np
import pytest

from load.users.scenarios import parse_scenario
from load.users.shapes import gaps, users_at

BASE: dict[str, Any] = {"about": "x", "classes": {"TextUser": 1}, "tasks": {"embed_text": 1}, "seconds": 100}


def levels(moments: list[float], **changes: Any) -> list[int | None]:
    scenario = parse_scenario("mine", BASE | changes)
    return [users_at(scenario, moment) for moment in moments]


def test_constant() -> None:
    assert levels([0, 50, 99.9, 100, 1000], users=7) == [7, 7, 7, None, None]


def test_steps_reach_all_users_in_equal_parts() -> None:
    found = levels([0, 24.9, 25, 50, 75, 99.9, 100], users=8, shape="step", steps=4)
    assert found == [2, 2, 4, 6, 8, 8, None]
    assert levels([0, 34, 67], users=4, shape="step", steps=3) == [1, 3, 4]


def test_a_spike_is_in_the_middle_and_passes() -> None:
    found = levels([0, 39.9, 40, 59.9, 60, 100], users=4, shape="spike", spike_factor=2.5, spike_seconds=20)
    assert found == [4, 4, 10, 10, 4, None]


def arrivals(rate: float, users: int, seconds: float, seed: int) -> list[float]:
    """Those of all sources of an open loop."""
    scenario = parse_scenario("mine", BASE | {"users": users, "loop": "open", "rate": rate})
    sources = (itertools.accumulate(gaps(scenario, random.Random(f"{seed} {user}"))) for user in range(users))
    return sorted(moment for source in sources for moment in itertools.takewhile(lambda at: at < seconds, source))


@pytest.mark.parametrize("users", [1, 8])
def test_arrivals_are_poisson_at_the_rate_however_many_sources_there_are(users: int) -> None:
    moments = arrivals(20, users, 1000, seed=3)
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    counts = np.histogram(moments, bins=1000, range=(0, 1000))[0]
    assert counts.var() == pytest.approx(20, rel=0.15)  # of a Poisson process, variance is mean; of even gaps, 0
    waits = np.diff(moments)
    assert (waits > 1 / 20).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_arrivals_are_seeded() -> None:
    assert arrivals(5, 3, 20, seed=1) == arrivals(5, 3, 20, seed=1) != arrivals(5, 3, 20, seed=2)


def test_a_closed_loop_has_no_arrivals() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        next(gaps(parse_scenario("mine", BASE | {"users": 1}), random.Random(0)))
