"""The best rows of a matrix: one product, in blocks where many ask at once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tritonclip.protocol.messages import FloatArray

IntArray = npt.NDArray[np.int64]
BLOCK_SCORES = 8_000_000  # in one block of scores: 32 MB


def best_rows(
    matrix: FloatArray, queries: FloatArray, top_k: int, rows: IntArray | None = None
) -> Iterator[tuple[IntArray, FloatArray]]:
    """For each query of [Q, D] its best positions in a matrix [N, D], with their dot products, best first.

    Of equal ones the first comes first, as a stable sort has them. ``rows`` [M], in order, alone count.
    """
    if rows is not None:
        matrix = matrix[rows]
    at_once = max(1, BLOCK_SCORES // max(1, len(queries)))
    best = [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    for start in range(0, len(matrix), at_once):
        block = matrix[start : start + at_once]
        scores = queries @ block.T if len(queries) > 1 else (block @ queries[0])[None]
        best = [_merge(kept, start, own, top_k) for kept, own in zip(best, scores, strict=True)]
    for positions, scores in best:
        yield (positions if rows is None else rows[positions]), scores


def _merge(
    kept: tuple[IntArray, FloatArray], start: int, scores: FloatArray, top_k: int
) -> tuple[IntArray, FloatArray]:
    positions = _top(scores, top_k)
    own = scores[positions]
    if not len(kept[0]):
        return positions + start, own
    both_positions = np.concatenate([kept[0], positions + start])
    both = np.concatenate([kept[1], own])
    order = np.argsort(-both, kind="stable")[:top_k]  # those kept come before, and have lower positions
    return both_positions[order], both[order]


def _top(scores: FloatArray, top_k: int) -> IntArray:
    """Positions of the best scores, in order; among those equal to the last one the first."""
    if top_k >= len(scores):
        return np.argsort(-scores, kind="stable")
    last = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
    above = np.flatnonzero(scores > last)
    equal = np.flatnonzero(scores == last)[: top_k - len(above)]
    found = np.sort(np.concatenate([above, equal]))
    return found[np.argsort(-scores[found], kind="stable")]
