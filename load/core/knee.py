"""The knee: the smallest concurrency that already reaches nearly the best throughput. Beyond it only waits grow."""

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.95
RULE = f"the smallest concurrency whose goodput is at least {SHARE:.0%} of the best"


class NotMeasurable(Exception):
    """There is nothing to measure; says why."""


@dataclass(frozen=True)
class Knee:
    """A point of a sweep. `at_the_edge` says that the sweep ended there, so that the real knee may lie beyond."""

    index: int
    concurrency: int
    goodput: float
    at_the_edge: bool


def find_knee(points: Sequence[tuple[int, float]]) -> Knee:
    """The knee of (concurrency, goodput) pairs; raises NotMeasurable where nothing was answered."""
    best = max((goodput for _, goodput in points), default=0.0)
    if best <= 0:
        raise NotMeasurable("nothing was answered at any concurrency, so there is no knee")
    reached = [(concurrency, index) for index, (concurrency, goodput) in enumerate(points) if goodput >= SHARE * best]
    concurrency, index = min(reached)
    return Knee(index, concurrency, points[index][1], concurrency == max(point[0] for point in points))
