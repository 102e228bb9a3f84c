"""Cosines to scores, and what these mean.

By the model's activation, a probability is a softmax over the texts or labels of the request: it says how much better
one fits than the others, not whether it fits. Of one alone it would be 1 whatever the image is, so there is none then.
Or it is a sigmoid of each, which needs no others. A cosine is absolute for any model.
"""

import numpy as np

from tritonclip import Manifest
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.inference.embedding import Vectors


def cosines(vectors: Vectors, rows: int) -> FloatArray:
    """The cosines of the first so many items with the others: features have length 1, but for what was rounded."""
    return np.asarray(np.clip(vectors.features[:rows] @ vectors.features[rows:].T, -1, 1))


def calibrated(manifest: Manifest, cosine: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logits and probabilities of cosines [B, N]; the latter NaN where they would mean nothing."""
    logits, probabilities = manifest.calibrate(cosine)
    if not manifest.compares_labels(cosine.shape[-1]):
        probabilities = np.full_like(probabilities, np.nan)
    return logits, probabilities
