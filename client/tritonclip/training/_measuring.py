"""A fit to some images, and its measures on others: features alone, no server and no files."""

from typing import Final

import numpy as np

from tritonclip.evaluation import Proportion
from tritonclip.evaluation._accuracy import TOP
from tritonclip.protocol.messages import FloatArray
from tritonclip.training._calibration import calibration_error, confidence, probabilities
from tritonclip.training._data import Samples, first_of_each
from tritonclip.training._difference import Difference
from tritonclip.training._regression import IntArray, Linear
from tritonclip.training._rejection import find_threshold, judge_threshold
from tritonclip.training._results import Calibration, CurvePoint, Measured, Scores
from tritonclip.training._selection import fit

CURVE: Final = (1, 2, 4, 8, 16)  # images a class


def measure(train: Samples, test: Samples, prior: Linear, seed: int) -> Measured:
    """Fit a classifier around a prior to some images, and look at what it makes of others."""
    found = fit(train.features, train.labels, prior, seed)
    logits = found.linear.logits(test.features)
    scores = _scores(logits, test.labels, found.temperature)
    zero_shot = _scores(prior.logits(test.features), test.labels, 1.0) if prior.weight.any() else None
    errors = (calibration_error(probabilities(logits, each), test.labels) for each in (1.0, found.temperature))
    threshold = find_threshold(found, train.labels)
    return Measured(
        fit=found,
        scores=scores,
        zero_shot=zero_shot,
        gain=Difference.of(_hits(zero_shot), _hits(scores)) if zero_shot else None,
        curve=(
            *_curve(train, test, prior, seed),
            CurvePoint(None, len(train), found.strength, scores.accuracy),
        ),
        calibration=Calibration(found.temperature, *errors),
        rejection=None if threshold is None else judge_threshold(threshold, found, train, test, prior, seed),
    )


def _scores(logits: FloatArray, labels: IntArray, temperature: float) -> Scores:
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    answers = tuple((int(label), tuple(map(int, row))) for label, row in zip(labels, best, strict=True))
    return Scores(answers, confidence(logits, temperature))


def _hits(scores: Scores) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([label == best[0] for label, best in scores.answers])


def _curve(train: Samples, test: Samples, prior: Linear, seed: int) -> list[CurvePoint]:
    """What fewer images would have been worth: the same procedure on a part of them."""
    most = int(np.bincount(train.labels).max())
    points = []
    for size in (size for size in CURVE if size < most):
        rows = first_of_each(train.labels, size, seed)
        found = fit(train.features[rows], train.labels[rows], prior, seed)
        right = found.linear.logits(test.features).argmax(axis=1) == test.labels
        points.append(CurvePoint(size, len(rows), found.strength, Proportion(int(right.sum()), len(right))))
    return points
