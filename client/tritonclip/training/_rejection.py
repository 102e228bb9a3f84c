"""When an image is none of the labels: a threshold for the greatest probability, and what it gets wrong.

    images left out in cross-validation ──right ones' probabilities──> the threshold that loses one in twenty of them
    images to test on ──> right answers lost, wrong answers caught
    classes left out in turn ──a head of the others──> images of a label it never saw, taken for one that it knows

Nobody has shown the head what else there is in the world. A class of the same data set that was left out stands in for
it: of what is less alike the head may be more, or less, sure.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tritonclip.evaluation import Proportion
from tritonclip.training._calibration import confidence
from tritonclip.training._data import Samples
from tritonclip.training._regression import IntArray, Linear, Regression, one_thread
from tritonclip.training._selection import Fit

Flags = npt.NDArray[np.bool_]

LOST: Final = 0.05  # of the right answers
FEWEST: Final = 40  # right answers of which a twentieth can be told
GROUPS: Final = 4  # of classes that are left out together


@dataclass(frozen=True)
class Rejection:
    """A ``threshold``, and what it does to images that were not trained on.

    ``lost`` are right answers below it, ``caught`` wrong answers below it (None where there are none), ``strangers``
    images of classes that a head had never seen and that are not below it (None with fewer than three classes).
    """

    threshold: float
    lost: Proportion | None
    caught: Proportion | None
    strangers: Proportion | None


def find_threshold(fit: Fit, labels: IntArray) -> float | None:
    """The probability below which one in twenty right answers lies, of the images with labels [N] that were left out.

    None where too few of them are right.
    """
    truth = labels[fit.held_out]
    right = fit.out_of_fold.argmax(axis=1) == truth
    if np.count_nonzero(right) < FEWEST:
        return None
    return round(float(np.quantile(confidence(fit.out_of_fold[right], fit.temperature), LOST)), 4)


def judge_threshold(threshold: float, fit: Fit, train: Samples, test: Samples, prior: Linear, seed: int) -> Rejection:
    """What a threshold gets wrong on the images to test on."""
    logits = fit.linear.logits(test.features)
    right, below = logits.argmax(axis=1) == test.labels, confidence(logits, fit.temperature) < threshold
    return Rejection(
        threshold, _share(below[right]), _share(below[~right]), _strangers(threshold, fit, train, test, prior, seed)
    )


def _strangers(
    threshold: float, fit: Fit, train: Samples, test: Samples, prior: Linear, seed: int
) -> Proportion | None:
    """How many images of classes left out, in turn, a head of the other classes takes for one of its own."""
    classes = len(prior.bias)
    if classes < 3:
        return None
    order = np.random.default_rng(seed).permutation(classes)
    taken: list[Flags] = []
    for group in np.array_split(order, min(GROUPS, classes)):
        known = np.setdiff1d(order, group)
        rows = np.flatnonzero(np.isin(train.labels, known))
        part, whole = (Linear(each.weight[known], each.bias[known]) for each in (prior, fit.linear))
        labels = np.searchsorted(known, train.labels[rows])
        with one_thread():
            head = Regression(train.features[rows], labels, part).fit(fit.strength, whole)
        strange = test.features[np.isin(test.labels, group)]
        taken.append(confidence(head.logits(strange), fit.temperature) >= threshold)
    return _share(np.concatenate(taken))


def _share(flags: Flags) -> Proportion | None:
    return Proportion(int(np.count_nonzero(flags)), len(flags)) if len(flags) else None
