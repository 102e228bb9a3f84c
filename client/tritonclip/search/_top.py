"""The best rows of a matrix: one product, in blocks where many ask at once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tritonclip.protocol.messages import FloatArray

IntArray = npt.NDArray[np.int64]
BLOCK_SCORES = 8_000_000  # in one block of scores: 32 MB
BLOCK_ROWS = 65_536  # in one block of a part of the rows, which may be copied: 168 MB at a width of 640


def best_rows(
    matrix: FloatArray, queries: FloatArray, top_k: int, rows: IntArray | None = None
) -> Iterator[tuple[IntArray, FloatArray]]:
    """For each query of [Q, D] its best positions in a matrix [N, D], with their dot products, best first.

    Of equal ones the first comes first, as a stable sort has them. ``rows`` [M], in order, alone count.
    """
    best = [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
    for positions, scores in _scores(matrix, queries, rows):
        best = [_merge(kept, positions, own, top_k) for kept, own in zip(best, scores, strict=True)]
    yield from best


def _scores(
    matrix: FloatArray, queries: FloatArray, rows: IntArray | None
) -> Iterator[tuple[IntArray | int, FloatArray]]:
    """Scores [Q, block] of each block, with its rows' positions, or the first one's where all rows count."""
    at_once = max(1, BLOCK_SCORES // max(1, len(queries)))
    if rows is not None:
        at_once = min(at_once, BLOCK_ROWS)
    for start in range(0, len(matrix), at_once):
        block = matrix[start : start + at_once]
        if rows is None:
            yield start, _product(queries, block)
            continue
        first, last = np.searchsorted(rows, (start, start + len(block)))
        own = rows[first:last]
        if 4 * len(own) > len(block):  # then leaving rows out costs more than it saves
            yield own, _product(queries, block)[:, own - start]
        elif len(own):
            yield own, _product(queries, block[own - start])


def _product(queries: FloatArray, block: FloatArray) -> FloatArray:
    return queries @ block.T if len(queries) > 1 else (block @ queries[0])[None]


def _merge(
    kept: tuple[IntArray, FloatArray], rows: IntArray | int, scores: FloatArray, top_k: int
) -> tuple[IntArray, FloatArray]:
    found = _top(scores, top_k)
    own, positions = scores[found], found + rows if isinstance(rows, int) else rows[found]
    if not len(kept[0]):
        return positions, own
    both_positions = np.concatenate([kept[0], positions])
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
