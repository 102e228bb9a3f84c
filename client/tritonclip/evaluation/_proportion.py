"""A share of trials with its interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # 1.95996…


@dataclass(frozen=True)
class Proportion:
    """``successes`` of ``trials``, each at least one trial; raises ValueError for counts that make no sense.

    ``low`` and ``high`` are the 95 % score interval without continuity correction (E. B. Wilson, "Probable inference,
    the law of succession, and statistical inference", JASA 22, 1927). Unlike the textbook interval p ± 1.96·√(pq/n) it
    stays within 0..1, and is right for few trials and for shares near 0 or 1.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials or self.trials < 1:
            raise ValueError(f"{self.successes} of {self.trials} is no proportion")

    @property
    def value(self) -> float:
        """The share itself, 0..1."""
        return self.successes / self.trials

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return max(0.0, self._centre - self._half_width)  # rounding alone can pass 0

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return min(1.0, self._centre + self._half_width)

    @property
    def _centre(self) -> float:
        return (self.successes + _Z**2 / 2) / (self.trials + _Z**2)

    @property
    def _half_width(self) -> float:
        spread = self.successes * (self.trials - self.successes) / self.trials + _Z**2 / 4
        return _Z * math.sqrt(spread) / (self.trials + _Z**2)
