"""How many users there are at a moment, and when the requests of an open loop arrive. Pure.

constant   users users users users          step   a quarter, a half, three quarters, all
spike      users users MORE  users          open   each user is a source; sources together are Poisson again
"""

import random
from collections.abc import Iterator

from load.users.scenarios import Scenario, Spike, Step


def users_at(scenario: Scenario, elapsed: float) -> int | None:
    """Users wanted after `elapsed` seconds of full load; None once the scenario is over."""
    if elapsed >= scenario.seconds:
        return None
    shape = scenario.shape
    if isinstance(shape, Step):
        reached = 1 + int(elapsed / scenario.seconds * shape.steps)
        return max(1, round(scenario.users * reached / shape.steps))
    if isinstance(shape, Spike):
        begin = (scenario.seconds - shape.seconds) / 2
        return round(scenario.users * shape.factor) if begin <= elapsed < begin + shape.seconds else scenario.users
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
