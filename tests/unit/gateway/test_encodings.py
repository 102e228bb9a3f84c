"""The forms in which vectors are written: formulas, exact bytes, and what a program gets back from them."""

import base64
from typing import get_args

import numpy as np
import orjson
import pytest

from gateway.answers import FloatArray
from gateway.encodings import Dtype, encoded, quantized

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
NUMPY: dict[Dtype, str] = {"float": "<f4", "int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}  # Voyage's


def unit_rows(count: int, width: int) -> FloatArray:
    rows = np.random.default_rng(5).normal(size=(count, width)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_floats_are_as_they_are() -> None:
    rows = unit_rows(3, 20)
    assert quantized(rows, "float") is rows


def test_bits_are_1_above_0_and_the_first_is_the_highest() -> None:
    row = np.array([[1, -1, 0, -0.0, 1e-30, -1e-30, 0.5, 1, 0.5, -1]], np.float32)  # 10 components: 2 bytes
    assert quantized(row, "ubinary").tolist() == [[0b10001011, 0b10000000]]
    assert quantized(row, "binary").tolist() == [[0b10001011 - 128, 0]]


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
