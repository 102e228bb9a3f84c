"""Measurements in turn: A B, B A, A B.

Whatever disturbs the machine then disturbs all of them alike; ratios are taken round by round.
"""

import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from load.core.knee import NotMeasurable


async def in_turn(measurements: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, list[float]]:
    """What each measurement gives in each round; every round runs all of them, every other one backwards."""
    rates: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(rounds):
        order = list(measurements) if number % 2 == 0 else list(measurements)[::-1]
        say(f"round {number + 1} of {rounds}: {', '.join(order)}")
        for name in order:
            rates[name].append(await measurements[name]())
    return rates


def ratio(rates: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """One measurement ÷ another: the median, which is to be quoted, and every round.

    Raises NotMeasurable where the base measured nothing.
    """
    if not all(base):
        raise NotMeasurable(f"cannot compare with a rate of nothing: {list(base)}")
    rounds = [rate / other for rate, other in zip(rates, base, strict=True)]
    return {"median": round(statistics.median(rounds), 4), "rounds": [round(each, 4) for each in rounds]}


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)
