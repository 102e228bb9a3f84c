"""The strength of a regression, by stratified cross-validation, and the temperature that its answers want.

    images ──folds──> for each: the others ──Regression.path──> logits of those left out, at every strength
        ──a temperature each──> cross-entropy ──> the strength of the least

Strengths are compared once their probabilities mean what they say: by the cross-entropy at each one's own temperature.
Accuracy alone is too coarse to choose by where images are few.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np

from tritonclip.protocol.messages import FloatArray
from tritonclip.training._calibration import cross_entropy, fit_temperature
from tritonclip.training._regression import IntArray, Linear, Regression, class_weights, mean_of, one_thread

STRENGTHS: Final = tuple(10 ** (1 - step / 2) for step in range(10))  # 10 to 0.0003
UNTESTED: Final = 0.1
"""What is taken where there is no second image to compare strengths on, around a tempered prior: the best of those
above on the tasks of docs/training.md at one image a class."""

FOLDS, FOLDS_OF_MANY, MANY = 5, 3, 2000  # of so many images each fold has enough, and each one costs


@dataclass(frozen=True)
class Trial:
    """How well a strength did on images left out: cross-entropy, in nats and at this ``temperature``; share right."""

    strength: float
    cross_entropy: float
    temperature: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A classifier with its ``temperature`` and how its strength was found.

    ``trials`` are empty where no class has two images; the strength is then UNTESTED, and the temperature 1.
    ``out_of_fold`` are logits [M, C] of the images with positions ``held_out`` [M], by classifiers that had not seen
    them.
    """

    linear: Linear
    strength: float
    temperature: float
    trials: tuple[Trial, ...]
    folds: int
    held_out: IntArray
    out_of_fold: FloatArray = field(repr=False)


def fit(features: FloatArray, labels: IntArray, prior: Linear, seed: int) -> Fit:
    """The best classifier of features [N, D] and labels [N]; the prior itself is among those compared, if it is one."""
    with one_thread():
        return _fit(features, labels, prior, seed)


def _fit(features: FloatArray, labels: IntArray, prior: Linear, seed: int) -> Fit:
    strengths = (inf, *STRENGTHS) if prior.weight.any() else STRENGTHS
    fold_of = assign_folds(labels, seed)
    held_out = np.flatnonzero(fold_of >= 0)
    if not len(held_out):
        linear = Regression(features, labels, temper(prior, features, labels)).fit(UNTESTED)
        return Fit(linear, UNTESTED, 1.0, (), 0, held_out, np.empty((0, len(prior.bias)), np.float32))
    folds = int(fold_of.max()) + 1

    def leave_out(fold: int) -> list[Linear]:
        seen = fold_of != fold
        return list(Regression(features[seen], labels[seen], prior).path(strengths))

    def out_of_fold(index: int) -> FloatArray:
        logits = np.empty((len(labels), len(prior.bias)), np.float32)
        for fold, path in enumerate(paths):
            left_out = fold_of == fold
            logits[left_out] = path[index].logits(features[left_out])
        return logits[held_out]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy's products run beside each other
        paths = list(pool.map(leave_out, range(folds)))
    truth = labels[held_out]
    trials = tuple(_judge(strength, out_of_fold(index), truth) for index, strength in enumerate(strengths))
    best = min(range(len(trials)), key=lambda index: trials[index].cross_entropy)
    chosen = trials[best]
    linear = Regression(features, labels, prior).fit(chosen.strength, mean_of([path[best] for path in paths]))
    return Fit(linear, chosen.strength, chosen.temperature, trials, folds, held_out, out_of_fold(best))


def temper(prior: Linear, features: FloatArray, labels: IntArray) -> Linear:
    """The prior with its logits divided so that it is as sure of these images as it is right; never made surer.

    A model's own scale suits its training. Where the prior is sure and wrong, one image a class would be spent on
    unlearning that; with more of them, cross-validation finds the strength for the scale as it is.
    """
    if not prior.weight.any():
        return prior
    weights = class_weights(labels, len(prior.bias))[labels]
    temperature = np.float32(max(1.0, fit_temperature(prior.logits(features), labels, weights)))
    return Linear(prior.weight / temperature, prior.bias / temperature)


def assign_folds(labels: IntArray, seed: int) -> IntArray:
    """A fold [N] for each image, every class spread evenly; -1 for a class's only image, which is never left out."""
    counts = np.bincount(labels)
    most = FOLDS if len(labels) < MANY else FOLDS_OF_MANY
    folds = min(most, int(counts.max()))
    generator = np.random.default_rng(seed)
    found = np.full(len(labels), -1, np.int64)
    for label in np.flatnonzero(counts > 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        found[members] = (np.arange(len(members)) + generator.integers(folds)) % folds
    return found


def _judge(strength: float, logits: FloatArray, labels: IntArray) -> Trial:
    weights = class_weights(labels, logits.shape[1])[labels]
    temperature = fit_temperature(logits, labels, weights)
    entropy = cross_entropy(logits, labels, weights, temperature)
    return Trial(strength, entropy, temperature, float(np.mean(logits.argmax(axis=1) == labels)))
