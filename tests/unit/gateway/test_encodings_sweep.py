"""The comparison of encodings: how vectors of each are compared, and that a loss shows."""

from pathlib import Path

import numpy as np
import pytest

from tests.images import BLUE, RED
from tests.sweep.encodings import WAYS, Features, as_int8, as_int8_of_length_1, as_signs, embed, shares, table
from tritonclip import Client
from tritonclip.protocol import FloatArray
from tritonclip.testing import FakeServer


def unit(rows: object) -> FloatArray:
    array = np.asarray(rows, np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


def test_forms() -> None:
    rows = unit([[3, 4, 0], [-1, 2, -2]])
    np.testing.assert_allclose(as_int8(rows), rows, atol=0.5 / 127)
    np.testing.assert_allclose(np.linalg.norm(as_int8_of_length_1(rows), axis=1), 1, atol=1e-6)
    assert as_signs(rows).tolist() == [[1, 1, -1], [-1, 1, -1]]
    assert (as_signs(rows) @ as_signs(rows).T).tolist() == [[3, 1], [1, 3]]  # one bit differs


@pytest.fixture
def close() -> Features:
    """Pairs that only small components tell apart, which int8 sees and bits do not."""
    images = unit([[1, 0.3, 0.1], [1, 0.1, 0.3], [1, -0.2, 0.2]])
    return Features(images, images, np.arange(3), images, np.arange(3), images)


def test_what_an_encoding_loses_shows(close: Features) -> None:
    found = {way: shares(close, way) for way in WAYS}
    for way in ("float", "int8, uint8: cosine", "int8, uint8: dot product"):
        assert (found[way].text_to_image[0], found[way].image_to_text[0], found[way].top1) == (1, 1, 1)
    bits = found["binary, ubinary: Hamming"]
    assert (bits.text_to_image[0], bits.image_to_text[0], bits.top1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert bits.text_to_image[1] == 1  # among the first five
    assert bits.cosine_error is None
    assert 0 < (found["int8, uint8: cosine"].cosine_error or 0) < 0.01


def test_from_files_to_a_table(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "blue.png").write_bytes(BLUE)
    (tmp_path / "captions.csv").write_text("path,caption\nred.png,warm\nblue.png,cold\nblue.png,wet\n")
    (tmp_path / "labels.csv").write_text("path,label\nblue.png,cold\nred.png,warm\n")
    fake = FakeServer(label_sets={"weather": ["warm", "cold", "wet"]})
    with Client(transport=fake.transport()) as client:
        found = embed(client, tmp_path / "captions.csv", tmp_path / "labels.csv", "weather")
    assert (found.images.shape, found.captions.shape, found.classes.shape) == ((2, 16), (3, 16), (3, 16))
    assert (found.owners.tolist(), found.truth.tolist()) == ([0, 1, 1], [1, 0])
    lines = table(found).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert all(line.count("|") == 6 for line in lines)
