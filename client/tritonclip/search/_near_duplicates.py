"""Groups of images that are nearly the same."""

from collections.abc import Iterator

import numpy as np

from tritonclip._errors import ConfigError
from tritonclip.protocol.messages import FloatArray
from tritonclip.search._top import IntArray

BLOCK_SCORES = 8_000_000


def groups(vectors: FloatArray, threshold: float) -> list[IntArray]:
    """Positions in [N, D] that hang together by pairs of a cosine of at least ``threshold``, the largest group first.

    Every pair is looked at: N²·D multiplications.
    """
    if not -1 < threshold <= 1:
        raise ConfigError(f"a cosine to group by is more than -1 and at most 1, not {threshold!r}")
    parents = np.arange(len(vectors))

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = int(parents[position])
        return position

    for first, second in _pairs(vectors, threshold):
        one, other = sorted((root(first), root(second)))
        parents[other] = one
    roots = np.array([root(position) for position in range(len(vectors))], dtype=np.int64)
    order = np.argsort(roots, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1) if len(order) else []
    return sorted((group for group in members if len(group) > 1), key=lambda group: (-len(group), int(group[0])))


def _pairs(vectors: FloatArray, threshold: float) -> Iterator[tuple[int, int]]:
    at_once = max(1, BLOCK_SCORES // max(1, len(vectors)))
    for start in range(0, len(vectors), at_once):
        scores = vectors[start : start + at_once] @ vectors[start:].T
        for first, second in np.argwhere(scores >= threshold):
            if second > first:
                yield start + int(first), start + int(second)
