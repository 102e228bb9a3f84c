"""Which rows of features are those of equal tokens."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from tritonclip._messages import FloatArray

_BLOCK: Final = 1024  # rows that are compared with all others at a time
_NEARLY: Final = 1e-4  # of a cosine: a sieve, so that few vectors are compared
_ROUNDED: Final = 1e-5  # how far equal tokens' features may be apart: alone and in a batch they are rounded differently


def equal_rows(features: FloatArray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of features [N, D] of length 1, the first before the second, that differ by rounding alone."""
    for start in range(0, len(features), _BLOCK):
        near = np.argwhere(features[start : start + _BLOCK] @ features.T > 1 - _NEARLY)
        for first, second in ((start + int(row), int(column)) for row, column in near):
            if first < second and np.abs(features[first] - features[second]).max() <= _ROUNDED:
                yield first, second
