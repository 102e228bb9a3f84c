"""The mathematics of heads: the optimum, its limits, the choice of a strength, and what is said of the outcome."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tritonclip.evaluation import LabelledImage, Proportion
from tritonclip.training import Difference, Linear, Samples, fit, measure
from tritonclip.training._calibration import calibration_error, fit_temperature, probabilities
from tritonclip.training._regression import IntArray, Regression, class_weights, log_softmax
from tritonclip.training._selection import STRENGTHS, UNTESTED, assign_folds, temper

WIDTH = 12
Features = NDArray[np.float32]


def drawn(seed: int, *counts: int, noise: float = 0.6) -> tuple[Features, IntArray, Linear]:
    """Features of so many images of each class, their labels, and the classifier by the classes' own directions."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(5).standard_normal((len(counts), WIDTH)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = centres[labels] + noise * generator.standard_normal((len(labels), WIDTH)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels, Linear(5 * centres, np.zeros(len(counts), np.float32))


def samples(seed: int, *counts: int, noise: float = 0.6) -> Samples:
    features, labels, _ = drawn(seed, *counts, noise=noise)
    images = tuple(LabelledImage(str(row), None, int(label)) for row, label in enumerate(labels))  # type: ignore[arg-type]
    return Samples(images, features, labels)


def accuracy(linear: Linear, features: Features, labels: IntArray) -> float:
    return float(np.mean(linear.logits(features).argmax(axis=1) == labels))


def test_the_gradient_is_that_of_the_objective() -> None:
    regression = Regression(*drawn(0, 7, 9, 30))
    generator = np.random.default_rng(1)
    place = generator.standard_normal(3 * (WIDTH + 1))
    _, gradient = regression.objective(place, 0.7)
    for _ in range(10):
        step = generator.standard_normal(len(place)) * 1e-2
        ahead, behind = (regression.objective(place + sign * step, 0.7)[0] for sign in (1, -1))
        assert (ahead - behind) / 2 == pytest.approx(float(gradient @ step), rel=5e-3, abs=1e-4)


@pytest.mark.parametrize("strength", [10.0, 0.1, 0.001])
def test_without_a_prior_the_optimum_is_scikit_learns(strength: float) -> None:
    features, labels, _ = drawn(0, 7, 9, 30)
    found = Regression(features, labels, Linear.zero(3, WIDTH)).fit(strength)
    centred = features - features.mean(axis=0)
    inputs = np.c_[centred / np.sqrt((centred**2).sum(axis=1).mean()), np.ones(len(features))]
    reference = LogisticRegression(
        C=1 / strength, class_weight="balanced", fit_intercept=False, tol=1e-8, max_iter=10_000
    ).fit(inputs, labels)
    ours = np.exp(log_softmax(found.logits(features)))
    np.testing.assert_allclose(ours, reference.predict_proba(inputs), atol=5e-3)


def test_a_strong_prior_is_kept_and_a_weak_one_is_left() -> None:
    features, labels, prior = drawn(0, 20, 20, 20, noise=0.3)
    wrong = Linear(prior.weight[[1, 2, 0]], prior.bias)
    kept = Regression(features, labels, wrong).fit(1e6)
    np.testing.assert_allclose(kept.weight, wrong.weight, atol=1e-3)
    assert Regression(features, labels, wrong).fit(math.inf) is wrong
    assert accuracy(wrong, features, labels) < 0.2
    assert accuracy(Regression(features, labels, wrong).fit(1e-3), features, labels) > 0.95


def test_an_optimum_is_found_from_anywhere() -> None:
    features, labels, prior = drawn(0, 20, 20, 20)
    regression = Regression(features, labels, prior)
    far = Linear(-3 * prior.weight, prior.bias + 1)
    found, again = regression.fit(0.1), regression.fit(0.1, far)
    np.testing.assert_allclose(found.logits(features), again.logits(features), atol=0.05)


def test_classes_weigh_the_same_however_many_images_they_have() -> None:
    weights = class_weights(np.repeat([0, 1, 3], [1, 4, 15]), 4)
    np.testing.assert_allclose(weights * [1, 4, 0, 15], [20 / 3, 20 / 3, 0, 20 / 3])
    features, labels, _ = drawn(3, 6, 300, noise=1.5)
    truth, others, _ = drawn(4, 200, 200, noise=1.5)
    found = Regression(features, labels, Linear.zero(2, WIDTH)).fit(1.0)
    assert np.mean(found.logits(truth).argmax(axis=1)[others == 0] == 0) > 0.4  # without weights hardly any is


def test_the_same_seed_gives_the_same_bits_on_any_number_of_cores() -> None:
    features, labels, prior = drawn(0, *[12] * 20)
    fits = []
    for cores in (1, 2):
        with threadpool_limits(cores):
            fits.append(fit(features, labels, prior, seed=3))
    assert fits[0].linear.weight.tobytes() == fits[1].linear.weight.tobytes()
    assert fits[0].strength == fits[1].strength


def test_folds_are_stratified_and_the_only_image_of_a_class_is_never_left_out() -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 5, 2, 1])
    folds = assign_folds(labels, seed=0)
    assert folds[-1] == -1
    for label, count in ((0, 10), (1, 5), (2, 2)):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1
    assert (assign_folds(labels, seed=0) == folds).all()
    assert (assign_folds(labels, seed=1) != folds).any()
    assert assign_folds(np.repeat([0, 1], 2), seed=0).max() == 1


def test_texts_that_are_right_are_kept_and_texts_that_are_wrong_are_unlearned() -> None:
    features, labels, prior = drawn(0, 6, 6, 6, 6, noise=0.9)
    truth, of, _ = drawn(1, *[200] * 4, noise=0.9)
    wrong = Linear(prior.weight[[1, 2, 3, 0]], prior.bias)
    good, bad = fit(features, labels, prior, seed=0), fit(features, labels, wrong, seed=0)
    assert good.strength > bad.strength
    assert len(good.trials) == len(STRENGTHS) + 1
    assert accuracy(good.linear, truth, of) > accuracy(prior, truth, of) - 0.02
    assert accuracy(bad.linear, truth, of) > accuracy(wrong, truth, of) + 0.25
    plain = fit(features, labels, Linear.zero(4, WIDTH), seed=0)
    assert math.inf not in [trial.strength for trial in plain.trials]
    assert accuracy(good.linear, truth, of) > accuracy(plain.linear, truth, of)


def test_one_image_a_class_leaves_nothing_to_compare() -> None:
    features, labels, prior = drawn(0, 1, 1, 1)
    found = fit(features, labels, prior, seed=0)
    assert (found.strength, found.temperature, found.trials, len(found.held_out)) == (UNTESTED, 1.0, (), 0)


def test_a_prior_is_tempered_where_it_is_sure_and_wrong_and_never_made_surer() -> None:
    features, labels, prior = drawn(0, 50, 50, 50, noise=1.0)
    surer = Linear(20 * prior.weight, prior.bias)
    tempered = temper(surer, features, labels)
    assert np.abs(tempered.weight).max() < np.abs(surer.weight).max() / 5
    timid = Linear(prior.weight / 20, prior.bias)
    np.testing.assert_array_equal(temper(timid, features, labels).weight, timid.weight)


def test_the_temperature_of_logits_drawn_at_one_is_found_again() -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((20_000, 5)).astype(np.float32) * 2
    labels = np.array([generator.choice(5, p=row) for row in np.exp(log_softmax(logits))])
    assert fit_temperature(3 * logits, labels, np.ones(len(labels))) == pytest.approx(3, rel=0.05)
    assert calibration_error(probabilities(logits, 1.0), labels) < 0.02
    assert calibration_error(probabilities(3 * logits, 1.0), labels) > 0.1
    assert calibration_error(probabilities(3 * logits, 3.0), labels) < 0.02


def test_the_interval_of_a_paired_difference_holds_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    chances = (0.6, 0.05, 0.15, 0.2)  # both right, the first alone, the second alone, neither
    found = [Difference(*map(int, generator.multinomial(100, chances))) for _ in range(2000)]
    covered = np.mean([each.low <= chances[2] - chances[1] <= each.high for each in found])
    assert 0.93 < covered < 0.98
    sides = [(each.both + each.first, each.both + each.second) for each in found]
    apart = [
        math.hypot(*(Proportion(right, 100).high - Proportion(right, 100).low for right in pair)) for pair in sides
    ]
    assert np.mean([each.high - each.low for each in found]) < 0.85 * np.mean(apart)  # what pairing is for


def test_a_difference_changes_its_sign_with_the_sides() -> None:
    there, back = Difference(50, 3, 17, 30), Difference(50, 17, 3, 30)
    assert there.value == -back.value == 0.14
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert Difference.of(np.array([True, False, True]), np.array([True, True, False])) == Difference(1, 1, 1, 0)
    assert Difference(10, 0, 0, 0).low < 0 == Difference(10, 0, 0, 0).value


def test_a_threshold_loses_one_in_twenty_right_answers_and_strangers_are_counted() -> None:
    train, test = samples(0, *[60] * 4), samples(1, *[100] * 4)
    found = measure(train, test, drawn(0, 1, 1, 1, 1)[2], seed=0)
    assert found.rejection is not None
    assert found.rejection.lost is not None
    assert found.rejection.lost.value == pytest.approx(0.05, abs=0.05)
    assert found.rejection.strangers is not None
    assert found.rejection.strangers.trials == 400  # every class was left out once
    assert found.rejection.strangers.value < 0.95
    assert found.zero_shot is not None
    assert found.gain is not None
    assert found.gain.value == pytest.approx(found.scores.accuracy.value - found.zero_shot.accuracy.value)
    assert [point.images_a_class for point in found.curve] == [1, 2, 4, 8, 16, None]
    assert [point.images for point in found.curve] == [4, 8, 16, 32, 64, 240]
    assert found.curve[-1].accuracy == found.scores.accuracy


def test_without_enough_right_answers_or_classes_nothing_is_claimed() -> None:
    few = measure(samples(0, 5, 5, 5), samples(1, 5, 5, 5), drawn(0, 1, 1, 1)[2], seed=0)
    assert few.rejection is None
    two = measure(samples(0, 60, 60), samples(1, 50, 50), Linear.zero(2, WIDTH), seed=0)
    assert two.rejection is not None
    assert two.rejection.strangers is None
    assert (two.zero_shot, two.gain) == (None, None)
