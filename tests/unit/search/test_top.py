"""The best rows of a matrix, against a sort of all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonclip.search import _top as top


@settings(deadline=None, max_examples=200)
@given(
    rows=st.integers(0, 40),
    queries=st.integers(1, 4),
    top_k=st.integers(1, 50),
    block=st.integers(1, 60),
    seed=st.integers(0, 9),
    some=st.booleans(),
    share=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_it_is_a_stable_sort(
    rows: int, queries: int, top_k: int, block: int, seed: int, some: bool, share: float
) -> None:
    """Few different values, so that many scores are equal, and blocks that cut anywhere."""
    generator = np.random.default_rng(seed)
    matrix = generator.integers(-1, 2, (rows, 3)).astype(np.float32)
    asked = generator.integers(-1, 2, (queries, 3)).astype(np.float32)
    chosen = np.flatnonzero(generator.random(rows) < share) if some else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top, "BLOCK_SCORES", block)
        patch.setattr(top, "BLOCK_ROWS", block)
        found = list(top.best_rows(matrix, asked, top_k, chosen))
    positions = np.arange(rows) if chosen is None else chosen
    for query, (best, scores) in zip(asked, found, strict=True):
        expected = matrix[positions] @ query
        order = np.argsort(-expected, kind="stable")[:top_k]
        np.testing.assert_array_equal(best, positions[order])
        np.testing.assert_array_equal(scores, expected[order])
