"""Multinomial logistic regression that starts at a prior classifier and is held to it by its strength.

    features ──centred, scaled──> z     prior logits = features @ W0.T + b0     logits = prior logits + z @ V.T + v

    minimise over V, v:   Σ_i weight_i · crossentropy(logits_i, label_i) + strength / 2 · (‖V‖² + ‖v‖²)

With strength ∞ it is the prior itself, near 0 it is free. Where the prior's weights are 0 it is the usual regression
under an L2 penalty. The z have mean 0 and a root mean square length of 1, so one strength means the same for every
encoder: beforehand a correction of the logits has a standard deviation of about 1 / √strength. Images of rarer classes
weigh more, so that each class counts as much as the others.

SciPy's L-BFGS finds the optimum; products are in single precision, sums over images in double.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from tritonclip.protocol.messages import FloatArray

IntArray = npt.NDArray[np.int64]
DoubleArray = npt.NDArray[np.float64]

MOST_STEPS: Final = 300
LEAST_DECREASE: Final = 1e-5  # of the objective in a step, relative to it: less is the end
LEAST_SLOPE: Final = 1e-3  # of the objective along any parameter: less is flat


@dataclass(frozen=True, eq=False)
class Linear:
    """A classifier: logits [N, C] = features [N, D] @ ``weight`` [C, D] transposed + ``bias`` [C]; all float32."""

    weight: FloatArray
    bias: FloatArray

    @classmethod
    def zero(cls, classes: int, width: int) -> "Linear":
        """The one to which all classes are equally likely."""
        return cls(np.zeros((classes, width), np.float32), np.zeros(classes, np.float32))

    def logits(self, features: FloatArray) -> FloatArray:
        """float32 [N, C]."""
        found: FloatArray = features @ self.weight.T + self.bias
        return found


class Regression:
    """The problem of features [N, D] of length 1 and labels [N], the indices of C classes, around a ``prior``."""

    def __init__(self, features: FloatArray, labels: IntArray, prior: Linear) -> None:
        self._prior = prior
        self._labels = labels
        self._weights = class_weights(labels, len(prior.bias))[labels]
        self._centre = features.mean(axis=0)
        centred = features - self._centre
        self._scale = float(np.sqrt(np.square(centred).sum(axis=1).mean())) or 1.0
        ones = np.ones((len(features), 1), np.float32)
        self._inputs = np.concatenate([centred / np.float32(self._scale), ones], axis=1, dtype=np.float32)
        self._prior_logits = prior.logits(features)

    def fit(self, strength: float, start: Linear | None = None) -> Linear:
        """The optimum at a strength above 0, ∞ included, found from ``start`` (else from the prior)."""
        return next(self.path([strength], start))

    def path(self, strengths: Iterable[float], start: Linear | None = None) -> Iterator[Linear]:
        """The optimum at each strength, every one found from the one before: best in falling order."""
        found = self._parameters(start or self._prior)
        options = {"maxiter": MOST_STEPS, "ftol": LEAST_DECREASE, "gtol": LEAST_SLOPE}
        for strength in strengths:
            if np.isinf(strength):
                yield self._prior
                continue
            found = minimize(self.objective, found, (strength,), method="L-BFGS-B", jac=True, options=options).x
            yield self._linear(found)

    def objective(self, parameters: DoubleArray, strength: float) -> tuple[float, DoubleArray]:
        """The value at V and v, which lie flat as [C, D + 1], and its gradient."""
        corrections = parameters.reshape(-1, self._inputs.shape[1]).astype(np.float32)
        logits = self._inputs @ corrections.T
        logits += self._prior_logits
        logits -= logits.max(axis=1, keepdims=True)
        rows = np.arange(len(logits))
        right = logits[rows, self._labels].astype(np.float64)
        probabilities = np.exp(logits, out=logits)
        sums = probabilities.sum(axis=1, dtype=np.float64)
        loss = float(self._weights @ (np.log(sums) - right))
        residuals = np.multiply(probabilities, (self._weights / sums).astype(np.float32)[:, None], out=probabilities)
        residuals[rows, self._labels] -= self._weights
        gradient = (residuals.T @ self._inputs).ravel().astype(np.float64)
        return loss + strength / 2 * float(parameters @ parameters), gradient + strength * parameters

    def _parameters(self, linear: Linear) -> DoubleArray:
        weight = (linear.weight - self._prior.weight).astype(np.float64)
        bias = linear.bias - self._prior.bias + weight @ self._centre
        parameters: DoubleArray = np.concatenate([weight * self._scale, bias[:, None]], axis=1).ravel()
        return parameters

    def _linear(self, parameters: DoubleArray) -> Linear:
        corrections = parameters.reshape(-1, self._inputs.shape[1])
        weight = corrections[:, :-1] / self._scale
        bias = corrections[:, -1] - weight @ self._centre
        return Linear((self._prior.weight + weight).astype(np.float32), (self._prior.bias + bias).astype(np.float32))


def one_thread() -> AbstractContextManager[object]:
    """Products on one core: several add up in another order, and the same seed is to give the same bits.

    Threads of BLAS also wait for each other by spinning, which costs more than it saves where anything else runs.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def mean_of(classifiers: Sequence[Linear]) -> Linear:
    """The classifier with the mean weights and biases."""
    weights, biases = ([getattr(each, name) for each in classifiers] for name in ("weight", "bias"))
    return Linear(np.mean(weights, axis=0), np.mean(biases, axis=0))


def class_weights(labels: IntArray, classes: int) -> DoubleArray:
    """The weight [C] of an image of each class, such that all classes have the same sum and all images the sum N."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return np.divide(len(labels), present * counts, out=np.zeros(classes), where=counts > 0)


def log_softmax(logits: FloatArray) -> DoubleArray:
    """Logarithms of the probabilities [N, C], in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: DoubleArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
