"""Probabilities that mean what they say: a temperature, and how far confidence is from accuracy.

Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) divides all logits by one
number. The order of the labels stays as it is.
"""

from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from tritonclip.protocol.messages import FloatArray
from tritonclip.training._regression import DoubleArray, IntArray, log_softmax

BINS: Final = 15  # ibid., section 3
RANGE: Final = (0.01, 100.0)  # of temperatures: where all images are right, ever colder would be ever better


def fit_temperature(logits: FloatArray, labels: IntArray, weights: DoubleArray) -> float:
    """The temperature at which the labels [N] are likeliest under logits [N, C], images weighted by ``weights`` [N]."""
    found = minimize_scalar(
        lambda log: cross_entropy(logits, labels, weights, float(np.exp(log))),
        bounds=tuple(np.log(RANGE)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))


def cross_entropy(logits: FloatArray, labels: IntArray, weights: DoubleArray, temperature: float = 1.0) -> float:
    """The mean over the images of -log p(label), in nats."""
    likelihood = log_softmax(logits / np.float32(temperature))[np.arange(len(labels)), labels]
    return -float(np.average(likelihood, weights=weights))


def calibration_error(probabilities: FloatArray, labels: IntArray) -> float:
    """The expected calibration error, 0..1: the mean distance of confidence and accuracy, over bins of confidence.

    ``probabilities`` are [N, C]. Bins are of equal width (ibid., equation 3); its bias upwards is about that of the
    few images in a bin, so figures of different numbers of images cannot be compared.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == each].sum() - right[bins == each].sum()) for each in np.unique(bins)]
    return float(np.sum(gaps) / len(labels))


def probabilities(logits: FloatArray, temperature: float) -> FloatArray:
    """float32 [N, C]: the softmax of logits at a temperature."""
    return np.exp(log_softmax(logits / np.float32(temperature))).astype(np.float32)


def confidence(logits: FloatArray, temperature: float) -> FloatArray:
    """float32 [N]: the greatest probability of each image."""
    greatest: FloatArray = probabilities(logits, temperature).max(axis=1)
    return greatest
