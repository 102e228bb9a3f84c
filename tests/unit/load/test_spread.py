"""Several servers behind a real gateway, small: they add up, a slow one holds up nobody, a killed one is not missed."""

import pytest

from load.spread import Setting, measure, measure_killed, measure_slow, table

pytestmark = pytest.mark.alone

SETTING = Setting(images_per_s=15.0, clients=6, seconds=2.5)


def test_two_servers_give_what_two_can() -> None:
    found = measure(2, SETTING)
    assert found["of_capacity"] > 0.7  # half of it where one got all
    assert table([found]).splitlines()[-1] == f"| {' | '.join(str(value) for value in found.values())} |"


def test_a_slow_one_does_not_hold_up_the_other() -> None:
    assert measure_slow(2, SETTING)["of_capacity"] > 0.6  # a fifth where it got as many requests


def test_one_that_is_killed_takes_no_answer_with_it() -> None:
    found = measure_killed(2, SETTING)
    assert found["under_way_there"] > 0
    assert found["answered_after"] > 0
    assert found["not_answered"] == 0
