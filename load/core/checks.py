"""How a request ended, and whether its answer was the right one.

    answered   the right answer came
    refused    the server said no, for now: 429, 503, UNAVAILABLE
    failed     the server failed or found fault with the request, or broke the connection while it ran
    lost       the connection broke because the server had been killed
    wrong      an answer came that is not the right one
    hung       no answer came within the deadline and its grace

Vectors are right where each has length 1 and its cosine to the reference of that very item is at least 0.999, and no
other item's reference is nearer; scores where all are within a tolerance of the reference's. References are the same
server's answers, one at a time. Half-precision encoders answer a little differently in other batches: cosines to
themselves stay above 0.9999 (tests/parity). Pure NumPy, for Locust's workers import this.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np

from tritonclip.protocol import FloatArray

COSINE = 0.999  # of an answer to its reference, at least
SAME = 0.9999  # two references this near could not be told apart
LENGTH_TOLERANCE = 1e-3
SCORE_TOLERANCE = 0.03  # of cosines and probabilities: twice what vectors of cosine 0.9999 to the right ones change


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"
    WRONG = "wrong"
    HUNG = "hung"


Check = Callable[[FloatArray], str | None]
"""Takes an answer; says what is wrong with it, or None."""


class References:
    """The right vectors [N, D] of N items, in their order.

    Raises ValueError where two are so near that an answer could not tell which item it belongs to.
    """

    def __init__(self, features: FloatArray) -> None:
        reason = _malformed(features, features.shape)
        if reason is not None:
            raise ValueError(f"the references are unusable: {reason}")
        self.features = features
        cosines = features @ features.T
        np.fill_diagonal(cosines, -1.0)
        if len(features) > 1 and cosines.max() >= SAME:
            first, second = divmod(int(cosines.argmax()), len(features))
            raise ValueError(f"items {first} and {second} have the same vector (cosine {cosines.max():.6f})")

    def check(self, indices: Sequence[int]) -> Check:
        """A check of answers for these items, one row each in this order."""
        rows = np.array(indices)
        shape = (len(rows), self.features.shape[1])

        def check(answer: FloatArray) -> str | None:
            if reason := _malformed(answer, shape):
                return reason
            cosines = answer @ self.features.T
            own = cosines[np.arange(len(rows)), rows]
            if own.min() < COSINE:
                return f"cosine {own.min():.5f} to the reference, row {int(own.argmin())}"
            nearest = cosines.argmax(axis=1)
            if (nearest != rows).any():
                return f"the vector of item {int(nearest[nearest != rows][0])}, not {int(rows[nearest != rows][0])}"
            return None

        return check


def check_vectors(shape: tuple[int, int]) -> Check:
    """A check of vectors whose right values are not known: of their number, width and length."""
    return lambda answer: _malformed(answer, shape)


def check_scores(reference: FloatArray, tolerance: float = SCORE_TOLERANCE) -> Check:
    """A check of cosines or probabilities [B, N] against the right ones."""

    def check(answer: FloatArray) -> str | None:
        if answer.shape != reference.shape:
            return f"shape {list(answer.shape)}, expected {list(reference.shape)}"
        if not np.isfinite(answer).all():
            return "not finite"
        off = float(np.abs(answer - reference).max())
        return f"a score is off by {off:.4f}" if off > tolerance else None

    return check


def _malformed(features: FloatArray, shape: tuple[int, ...]) -> str | None:
    if features.shape != shape or features.ndim != 2:
        return f"shape {list(features.shape)}, expected {list(shape)}"
    lengths = np.linalg.norm(features, axis=1)
    if not np.isfinite(lengths).all():
        return "not finite"
    off = float(np.abs(lengths - 1).max(initial=0.0))
    return f"a vector of length off by {off:.4f}" if off > LENGTH_TOLERANCE else None
