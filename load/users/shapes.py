"""How many users there are at a moment, and when the requests of an open loop arrive. Pure.

constant   users users users users          step   a quarter, a half, three quarters, all
spike      users users MORE  users          open   each user is a source; sources together are Poisson again
"""

import random
from collections.abc import Iterator

from load.users.scenarios import Scenario


def users_at(scenario: Scenario, elapsed: float) -> int | None:
    """Users wanted after `elapsed` seconds of full load; None once the scenario is over."""
    if elapsed >= scenario.seconds:
        return None
    if scenario.steps is not None:
        reached = 1 + int(elapsed / scenario.seconds * scenario.steps)
        return max(1, round(scenario.users * reached / scenario.steps))
    if scenario.spike_seconds is not None and scenario.spike_factor is not None:
        begin = (scenario.seconds - scenario.spike_seconds) / 2
        if begin <= elapsed < begin + scenario.spike_seconds:
            return round(scenario.users * scenario.spike_factor)
    return scenario.users


def gaps(scenario: Scenario, generator: random.Random) -> Iterator[float]:
    """Seconds between the arrivals of one source of an open loop, without end.

    Independent Poisson sources make a Poisson process together, so that `users` of them, on any number of workers, have
    the scenario's rate, and a shape that has more users has more requests.
    """
    if scenario.rate is None:
        raise ValueError(f"{scenario.name} is a closed loop: its requests wait for answers")
    rate = scenario.rate / scenario.users
    while True:
        yield generator.expovariate(rate)
