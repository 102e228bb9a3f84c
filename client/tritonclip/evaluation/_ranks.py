"""Ranks of the right answer among all answers, in blocks: the numeric core of retrieval.

A query and an answer belong together where their groups are the same number: here the group is an image's position, so
one function serves captions that look for their image, and images that look for any of their captions.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tritonclip.protocol.messages import FloatArray

IntArray = npt.NDArray[np.int64]
_BLOCK_SCORES = 4_000_000  # scores in one block: 16 MB, and a few arrays of booleans beside them


def first_hit_ranks(
    queries: FloatArray, query_groups: IntArray, gallery: FloatArray, gallery_groups: IntArray
) -> IntArray:
    """How many answers come before each query's first right one: [Q] from queries [Q, D] and a gallery [G, D].

    ``query_groups`` [Q] and ``gallery_groups`` [G] say what belongs together; each query needs an answer of its group
    (else ValueError). Answers are ordered by dot product, equal ones by their position in the gallery, as a stable sort
    has them: a model that gives everything the same vector is then no better than chance.

    A rank below k is a hit of recall@k as papers on CLIP count it: one right answer among the first k is enough,
    however many there are (CLIP_benchmark, ``zeroshot_retrieval.py``).
    """
    if not np.isin(query_groups, gallery_groups).all():
        raise ValueError("a query without a right answer has no rank")
    ranks = np.empty(len(queries), dtype=np.int64)
    rows = max(1, _BLOCK_SCORES // len(gallery)) if len(gallery) else 1
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        hits = query_groups[block, None] == gallery_groups[None, :]
        ranks[block] = _ranks(queries[block] @ gallery.T, hits)
    return ranks


def _ranks(scores: FloatArray, hits: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    first = np.where(hits, scores, -np.inf).argmax(axis=1)[:, None]  # of the best hits, the one that stands first
    best = np.take_along_axis(scores, first, axis=1)
    earlier = np.arange(scores.shape[1])[None, :] < first
    return np.asarray(((scores > best) | ((scores == best) & earlier)).sum(axis=1))
