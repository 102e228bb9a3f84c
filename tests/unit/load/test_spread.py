"""Several servers behind a real gateway, small: they add up, a slow one holds up nobody, a killed one is not missed."""

from collections.abc import Callable
from typing import Any

import pytest

from load.spread import Setting, measure, measure_killed, measure_slow, table

pytestmark = pytest.mark.alone

SETTING = Setting(images_per_s=15.0, clients=6, seconds=2.5)
TRIES = 5


def undisturbed(run: Callable[[], dict[str, Any]], share: float) -> dict[str, Any]:
    """The first run that has more than a share of the capacity, else the last: a machine that stands still has less."""
    for _ in range(TRIES):
        found = run()
        if found["of_capacity"] > share:
            break
    return found


def test_two_servers_give_what_two_can() -> None:
    found = undisturbed(lambda: measure(2, SETTING), 0.7)
    assert found["of_capacity"] > 0.7  # half of it where one got all
    assert table([found]).splitlines()[-1] == f"| {' | '.join(str(value) for value in found.values())} |"


def test_a_slow_one_does_not_hold_up_the_other() -> None:
    found = undisturbed(lambda: measure_slow(2, SETTING), 0.6)
    assert found["of_capacity"] > 0.6  # a fifth where it got as many requests


def test_one_that_is_killed_takes_no_answer_with_it() -> None:
    for _ in range(TRIES):
        found = measure_killed(2, SETTING)
        assert found["not_answered"] == 0
        if found["under_way_there"] > 0:  # none where all were answered while who asks stood still
            break
    assert found["under_way_there"] > 0
    assert found["answered_after"] > 0
