"""Features to scores, as the served `similarity` does it: cosine, logits at the checkpoint's scale, probabilities.

Here and not on the server because text features come from the cache: a second round trip would cost more than the
arithmetic. A test holds both to the same numbers.
"""

from dataclasses import dataclass

import numpy as np

from gateway.answers import FloatArray
from tritonclip import Manifest, ProtocolError


@dataclass(frozen=True, eq=False)
class Scores:
    """Each image against each text, [B, N]; the rows of failed images are NaN."""

    cosine: FloatArray
    logits: FloatArray
    probabilities: FloatArray

    def best(self, row: int, count: int | None = None) -> list[int]:
        """The columns of a row, best first. By logit: probabilities can round to the same 0."""
        order = np.argsort(-self.logits[row], kind="stable")[:count]
        return [int(column) for column in order]


def score(images: FloatArray, texts: FloatArray, manifest: Manifest) -> Scores:
    """Score features of images [B, D] against features of texts [N, D]."""
    if manifest.logit_scale is None:
        raise ProtocolError("manifest: no logit_scale, so there are no logits")
    cosine = images @ texts.T
    logits = np.float32(manifest.logit_scale) * cosine
    if manifest.logit_bias is None:
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Scores(cosine, logits, weights / weights.sum(axis=1, keepdims=True))
    # A checkpoint with a bias was trained with the sigmoid loss: each text stands by itself.
    logits = logits + np.float32(manifest.logit_bias)
    return Scores(cosine, logits, 1 / (1 + np.exp(-logits)))
