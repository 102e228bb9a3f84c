"""The forms in which vectors are written: formulas, exact bytes, and what a program gets back from them."""

import base64
from typing import get_args

import numpy as np
import orjson
import pytest

from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.responses.encodings import Dtype, Format, encoded, encoding_of, quantized

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
NUMPY: dict[Dtype, str] = {"float": "<f4", "int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}  # Voyage's


def unit_rows(count: int, width: int) -> FloatArray:
    rows = np.random.default_rng(5).normal(size=(count, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_floats_are_as_they_are() -> None:
    rows = unit_rows(3, 20)
    assert quantized(rows, "float") is rows


def test_bits_are_1_above_0_and_the_first_is_the_highest() -> None:
    row = np.array([[1, -1, 0, -0.0, 1e-30, -1e-30, 0.5, 1, 0.5, -1]], np.float32)  # 10 components: 2 bytes
    assert quantized(row, "ubinary").tolist() == [[0b10001011, 0b10000000]]
    assert quantized(row, "binary").tolist() == [[0b10001011 - 128, 0]]


def test_int8_has_one_scale_for_all_vectors() -> None:
    rows = np.array([[1, 0], [-1, 0], [0.6, -0.8], [0.0039, 0.00394]], np.float32)
    assert quantized(rows, "int8").tolist() == [[127, 0], [-127, 0], [76, -102], [0, 1]]
    assert quantized(rows, "uint8").tolist() == [[255, 128], [1, 128], [204, 26], [128, 129]]


def test_a_length_that_is_1_within_what_is_accepted_does_not_overflow() -> None:
    assert quantized(np.array([[1.001, 0], [-1.001, 0]], np.float32), "int8").tolist() == [[127, 0], [-127, 0]]


def test_int8_keeps_cosines_dot_products_and_distances() -> None:
    """Each within six times the standard error of rounding 640 numbers of either vector."""
    rows = unit_rows(50, 640)
    cosines = rows @ rows.T
    int8 = quantized(rows, "int8").astype(np.float64)
    error = 6 * np.sqrt(2 / 12) / 127
    np.testing.assert_allclose(int8 @ int8.T / 127**2, cosines, atol=error + 640 / 12 / 127**2)  # a row with itself
    lengths = np.linalg.norm(int8, axis=1)
    np.testing.assert_allclose(int8 @ int8.T / np.outer(lengths, lengths), cosines, atol=error)
    uint8 = quantized(rows, "uint8").astype(np.float64)
    np.testing.assert_array_equal(uint8[:, None] - uint8, int8[:, None] - int8)  # and so Euclidean distances


def test_bits_that_differ_grow_with_the_angle() -> None:
    """The share of bits that differ is the angle divided by π, for directions at random (Charikar 2002)."""
    rows = unit_rows(40, 4096)
    near = np.asarray(rows[0] * 0.8 + rows[1:] * 0.6, np.float32)
    bits = np.unpackbits(quantized(np.vstack([rows[:1], near]), "ubinary"), axis=1)
    assert (bits[1:] != bits[0]).mean() == pytest.approx(np.arccos(0.8) / np.pi, abs=0.005)


@pytest.mark.parametrize("dtype", DTYPES)
def test_base64_has_the_bytes_of_the_numbers(dtype: Dtype) -> None:
    rows = unit_rows(4, 24)
    numbers = orjson.loads(orjson.dumps(encoded(rows, dtype), option=orjson.OPT_SERIALIZE_NUMPY))
    packed = [np.frombuffer(base64.b64decode(str(text)), NUMPY[dtype]) for text in encoded(rows, dtype, base64=True)]
    np.testing.assert_array_equal(np.array(numbers, NUMPY[dtype]), packed)
    assert len(numbers) == 4
    assert all(isinstance(number, float if dtype == "float" else int) for number in numbers[0])


def test_strided_rows_are_written_in_their_order() -> None:
    rows = unit_rows(6, 16)
    assert encoded(rows[::2, ::-1], "float", base64=True) == encoded(rows[::2, ::-1].copy(), "float", base64=True)


@pytest.mark.parametrize(
    ("encoding_format", "embedding_type", "output_dtype", "expected"),
    [
        (None, None, None, ("float", False)),
        ("float", None, None, ("float", False)),
        ("base64", None, None, ("float", True)),
        ("int8", None, None, ("int8", False)),
        (None, "ubinary", None, ("ubinary", False)),
        (None, "base64", None, ("float", True)),
        ("base64", "float", None, ("float", True)),
        ("base64", "base64", None, ("float", True)),
        ("int8", "base64", None, ("int8", True)),
        ("base64", None, "binary", ("binary", True)),  # voyageai's client, unless told otherwise
        ("float", None, "int8", ("int8", False)),  # OpenAI's clients, told to ask for no base64
        ("int8", "int8", "int8", ("int8", False)),
    ],
)
def test_fields_that_agree(
    encoding_format: Format | None,
    embedding_type: Format | None,
    output_dtype: Dtype | None,
    expected: tuple[Dtype, bool],
) -> None:
    assert encoding_of(encoding_format, embedding_type=embedding_type, output_dtype=output_dtype) == expected


@pytest.mark.parametrize(
    ("encoding_format", "embedding_type", "output_dtype", "param"),
    [
        ("float", "base64", None, "embedding_type"),
        ("int8", "uint8", None, "embedding_type"),
        ("int8", None, "float", "output_dtype"),
        (None, "float", "int8", "output_dtype"),
        ("base64", "int8", "uint8", "output_dtype"),
    ],
)
def test_fields_that_contradict_each_other(
    encoding_format: Format | None, embedding_type: Format | None, output_dtype: Dtype | None, param: str
) -> None:
    with pytest.raises(ApiError, match="something else") as caught:
        encoding_of(encoding_format, embedding_type=embedding_type, output_dtype=output_dtype)
    assert caught.value.param == param
