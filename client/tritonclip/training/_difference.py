"""Two classifiers on the same images: how much better the second one is, with its interval."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tritonclip.evaluation import Proportion

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """Of N images: how many ``both`` had right, the ``first`` alone, the ``second`` alone, and ``neither``.

    ``low`` and ``high`` are the 95 % interval of the difference of two paired proportions from their Wilson intervals
    (R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17, 1998, method 10). It is narrower than the two intervals let one think, since both
    classifiers err on the same images.
    """

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Hits, second: Hits) -> "Difference":
        """From what each had right [N]."""
        counts = ((first & second), (first & ~second), (~first & second), (~first & ~second))
        return cls(*(int(np.count_nonzero(count)) for count in counts))

    @property
    def value(self) -> float:
        """The second one's share minus the first one's, -1..1."""
        return (self.second - self.first) / self._images

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        one, other = self._proportions
        return max(-1.0, self.value - self._distance(other.value - other.low, one.high - one.value))

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        one, other = self._proportions
        return min(1.0, self.value + self._distance(other.high - other.value, one.value - one.low))

    @property
    def _images(self) -> int:
        return self.both + self.first + self.second + self.neither

    @property
    def _proportions(self) -> tuple[Proportion, Proportion]:
        return Proportion(self.both + self.first, self._images), Proportion(self.both + self.second, self._images)

    def _distance(self, one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * self._correlation * one * other + other**2))

    @property
    def _correlation(self) -> float:
        """Of the two, with Newcombe's correction for continuity where it is positive."""
        one, other = self._proportions
        scale = math.sqrt(math.prod(share.successes * (share.trials - share.successes) for share in (one, other)))
        if not scale:
            return 0.0
        product = self.both * self.neither - self.first * self.second
        return (max(0.0, product - self._images / 2) if product > 0 else product) / scale
