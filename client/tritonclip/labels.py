"""When two labels are one to a model: they would share a probability, and each look half as likely as it is.

That is so under a softmax. A sigmoid judges each label by itself, and the same one twice alike.

Before anything is computed ``first_duplicate`` compares the strings. What the tokenizer repairs beyond that (HTML
entities, forms of Unicode) shows afterwards: ``equal_rows`` compares the features.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from tritonclip._manifest import Manifest
from tritonclip.protocol.messages import FloatArray

_BLOCK: Final = 1024  # rows that are compared with all others at a time
_NEARLY: Final = 1e-4  # of a cosine: a sieve, so that few vectors are compared
_ROUNDED: Final = 1e-5  # how far equal tokens' features may be apart: alone and in a batch they are rounded differently


def first_duplicate(labels: Sequence[str], manifest: Manifest) -> tuple[int, int] | None:
    """The first two labels, by index, that differ at most in white space, or in case where the model knows none."""
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        key = " ".join(label.split())
        first = seen.setdefault(key.lower() if manifest.lower_cases else key, index)
        if first != index:
            return first, index
    return None


def equal_rows(features: FloatArray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of features [N, D] of length 1, the first before the second, that differ by rounding alone."""
    for start in range(0, len(features), _BLOCK):
        near = np.argwhere(features[start : start + _BLOCK] @ features.T > 1 - _NEARLY)
        for first, second in ((start + int(row), int(column)) for row, column in near):
            if first < second and np.abs(features[first] - features[second]).max() <= _ROUNDED:
                yield first, second
