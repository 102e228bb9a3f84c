"""Whether a series grows, or only wavers.

The first third of a run is warm-up: caches fill and allocators find their size. On the rest:

    growth    the slope of Theil and Sen (the median of the slopes between all pairs, which single outliers do not
              move), times the time it spans; none, where Mann and Kendall's test finds that the order of the values
              may have come about by chance (one-sided, 1 %)
    growing   growth is more than the tolerance

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
    """The verdict on one series, in its unit."""

    median: float
    growth: float  # over the judged part
    tolerance: float

    @property
    def growing(self) -> bool:
        """Whether it grows by more than is tolerated."""
        return self.growth > self.tolerance


def judge(moments: Sequence[float], values: Sequence[float], tolerance: Tolerance) -> Trend:
    """The trend of values at ascending moments, those left out that are no numbers; ValueError where too few are."""
    known = [pair for pair in zip(moments, values, strict=True) if not math.isnan(pair[1])]
    times, series = np.array(known[math.floor(len(known) * WARM_UP_SHARE) :]).reshape(-1, 2).T
    if len(series) < LEAST_VALUES:
        raise ValueError(f"{len(series)} values after the warm-up, at least {LEAST_VALUES} are needed to see a trend")
    earlier, later = np.triu_indices(len(series), k=1)
    rises = series[later] - series[earlier]
    growth = float(np.median(rises / (times[later] - times[earlier]))) * float(times[-1] - times[0])
    median = float(np.median(series))
    sure = _z(series, rises) > LEAST_Z
    return Trend(median, growth if sure else 0.0, max(tolerance.floor, tolerance.share * abs(median)))


def _z(series: NDArray[np.float64], rises: NDArray[np.float64]) -> float:
    """Mann and Kendall's statistic, corrected for ties: above 0 where later values tend to be larger."""
    count = len(series)
    score = float(np.sign(rises).sum())
    ties = np.unique(series, return_counts=True)[1]
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return (score - np.sign(score)) / math.sqrt(variance) if variance > 0 else 0.0
