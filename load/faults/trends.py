"""Whether a series grows, or only wavers.

The first third of a run is warm-up: caches fill and allocators find their size. On the rest:

    growth    the slope of Theil and Sen (the median of the slopes between all pairs, which single outliers do not
              move), times the time it spans
    growing   growth is more than the tolerance, and Mann and Kendall's test finds the order of the values unlikely
              (one-sided, 1 %) to have come about by chance

The tolerance is the larger of a floor and a share of the median: what would not matter, however sure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_UP_SHARE = 1 / 3
LEAST_VALUES = 8  # with fewer the test cannot reach its level with any ties among them
LEAST_Z = 2.326  # of the normal distribution, one-sided 1 %


@dataclass(frozen=True)
class Tolerance:
    """Growth over the judged part of a run that is let pass: in the series' unit, or as a share of its median."""

    floor: float
    share: float = 0.0


@dataclass(frozen=True)
class Trend:
    """The verdict on one series."""

    median: float
    growth: float  # over the judged part, in the series' unit
    tolerance: float
    z: float

    @property
    def growing(self) -> bool:
        """Whether it grows by more than is tolerated, and not by chance."""
        return self.growth > self.tolerance and self.z > LEAST_Z


def judge(moments: Sequence[float], values: Sequence[float], tolerance: Tolerance) -> Trend:
    """The trend of values at ascending moments; ValueError where there are too few to tell."""
    first = math.floor(len(values) * WARM_UP_SHARE)
    times, series = np.array(moments[first:], dtype=float), np.array(values[first:], dtype=float)
    if len(series) < LEAST_VALUES:
        raise ValueError(f"{len(series)} values after the warm-up, at least {LEAST_VALUES} are needed to see a trend")
    earlier, later = np.triu_indices(len(series), k=1)
    rises = series[later] - series[earlier]
    growth = float(np.median(rises / (times[later] - times[earlier]))) * float(times[-1] - times[0])
    median = float(np.median(series))
    return Trend(median, growth, max(tolerance.floor, tolerance.share * abs(median)), _z(series, rises))


def _z(series: NDArray[np.float64], rises: NDArray[np.float64]) -> float:
    """Mann and Kendall's statistic, corrected for ties: above 0 where later values tend to be larger."""
    count = len(series)
    score = float(np.sign(rises).sum())
    ties = np.unique(series, return_counts=True)[1]
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return (score - np.sign(score)) / math.sqrt(variance) if variance > 0 else 0.0
