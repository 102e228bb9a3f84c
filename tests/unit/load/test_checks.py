"""Every way in which an answer can be wrong is seen, and right ones pass."""

import numpy as np
import pytest

from load.core.checks import References, check_scores
from tests.unit.load.fake_client import vectors
from tritonclip.protocol import FloatArray

ITEMS = [b"one", b"two", b"three", b"four"]


@pytest.fixture
def features() -> FloatArray:
    return vectors(ITEMS)


def test_right_vectors_pass(features: FloatArray) -> None:
    check = References(features).check([2, 0])
    assert check(features[[2, 0]]) is None
    nearly = features[[2, 0]] + np.float32(2e-3) * features[[1, 1]]  # what another batch may do, and a little more
    nearly /= np.linalg.norm(nearly, axis=1, keepdims=True)
    assert check(nearly) is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows[::-1], "cosine"),  # another item's vector
        (lambda rows: rows[:1], "shape"),
        (lambda rows: rows[:, :-1], "shape"),
        (lambda rows: rows[0], "shape"),
        (lambda rows: rows * np.float32(1.01), "length"),
        (lambda rows: rows * np.float32(np.nan), "not finite"),
        (lambda rows: np.where([[True], [False]], np.float32(np.inf), rows), "not finite"),
        (lambda rows: -rows, "cosine"),
        (lambda rows: np.zeros_like(rows), "length"),
    ],
)
def test_wrong_vectors_are_seen(features: FloatArray, spoil: object, words: str) -> None:
    reason = References(features).check([2, 0])(spoil(features[[2, 0]]))  # type: ignore[operator]
    assert reason is not None
    assert words in reason


def test_a_vector_that_is_near_enough_but_nearer_to_another_item_is_wrong() -> None:
    first = np.array([1.0, 0.0], dtype=np.float32)
    angle = np.arccos(0.9995)  # two images of one thing
    second = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    reason = References(np.stack([first, second])).check([0])(second[None])
    assert reason == "the vector of item 1, not 0"


def test_a_small_turn_away_from_the_reference_is_wrong() -> None:
    """At the threshold itself: cosine 0.9985 fails and 0.9995 passes."""
    reference: FloatArray = np.array([[1, 0, 0]], dtype=np.float32)
    for cosine, wrong in ((0.9985, True), (0.9995, False)):
        turned = np.array([[cosine, np.sqrt(1 - cosine**2), 0]], dtype=np.float32)
        assert (References(reference).check([0])(turned) is not None) is wrong


def test_references_that_tell_nothing_apart_are_refused(features: FloatArray) -> None:
    with pytest.raises(ValueError, match="items 1 and 4 have the same vector"):
        References(np.concatenate([features, features[1:2]]))
    with pytest.raises(ValueError, match="length"):
        References(2 * features)


def test_scores() -> None:
    right = np.array([[0.3, -0.1], [0.0, 0.2]], dtype=np.float32)
    check = check_scores(right)
    assert check(right + np.float32(0.01)) is None
    assert "off by" in str(check(right[::-1]))
    assert "shape" in str(check(right.T[:1]))
    assert "finite" in str(check(right * np.float32(np.nan)))
