"""Measurements in turn, so that whatever disturbs the machine disturbs all of them: A B, B A, A B; ratios by round."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from load.core.knee import NotMeasurable


@dataclass(frozen=True)
class Ratio:
    """One measurement ÷ another, round by round."""

    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.rounds)

    def to_json(self) -> dict[str, Any]:
        """The median, and every round."""
        return {"median": round(self.median, 4), "rounds": [round(ratio, 4) for ratio in self.rounds]}


async def in_turn(
    measurements: Mapping[str, Callable[[], Awaitable[float]]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """What each measurement gives in each round; every round runs all of them, every other one backwards."""
    rates: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(rounds):
        order = list(measurements) if number % 2 == 0 else list(measurements)[::-1]
        say(f"round {number + 1} of {rounds}: {', '.join(order)}")
        for name in order:
            rates[name].append(await measurements[name]())
    return rates


def ratio(rates: Sequence[float], base: Sequence[float]) -> Ratio:
    """The ratio of each round; raises NotMeasurable where the base measured nothing."""
    if not all(base):
        raise NotMeasurable(f"cannot compare with a rate of nothing: {list(base)}")
    return Ratio([rate / other for rate, other in zip(rates, base, strict=True)])
