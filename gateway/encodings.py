"""Vectors as callers ask for them: what their numbers are, and how those stand in an answer.

    features [N, D], of length 1 ──quantized──> numbers of a dtype ──encoded──> lists of numbers, or base64 of their bytes

The dtypes are Cohere's (`embedding_types`) and Voyage's (`output_dtype`); base64 of float32 is OpenAI's.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pybase64

from gateway.answers import FloatArray

Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]

INT8_LARGEST = 127  # -128 is not used, so that a vector and its negative are each other's mirror
OFFSET = 128  # between the signed and the unsigned form of a byte


def quantized(features: FloatArray, dtype: Dtype) -> npt.NDArray[Any]:
    """Features [N, D], finite and not 0, as numbers of a dtype.

    | dtype   | result           | formula for a row x |
    |---|---|---|
    | float   | float32 [N, D]   | x |
    | int8    | int8 [N, D]      | round(127 · x / max|x|): -127 to 127 |
    | uint8   | uint8 [N, D]     | the int8, plus 128: 1 to 255 |
    | ubinary | uint8 [N, ⌈D/8⌉] | a bit for each component, 1 where it is above 0; 8 a byte, the first the highest |
    | binary  | int8 [N, ⌈D/8⌉]  | the ubinary, minus 128 ("offset binary") |

    Bits behind the last component are 0.
    """
    match dtype:
        case "float":
            return features.astype("<f4", copy=False)
        case "int8":
            return _int8(features)
        case "uint8":
            return (_int8(features).astype(np.int16) + OFFSET).astype(np.uint8)
        case "ubinary":
            return np.packbits(features > 0, axis=1)
        case "binary":
            return (np.packbits(features > 0, axis=1).astype(np.int16) - OFFSET).astype(np.int8)


def encoded(features: FloatArray, dtype: Dtype, *, base64: bool = False) -> Sequence[npt.NDArray[Any] | str]:
    """A value for each row of features [N, D] (see `quantized`), as orjson writes it with OPT_SERIALIZE_NUMPY.

    Either the row's numbers, or base64 of their bytes: little-endian float32, or a byte a number.
    """
    rows = quantized(features, dtype)
    if not base64:
        return list(rows)
    return [pybase64.b64encode_as_string(row.tobytes()) for row in rows]


def _int8(features: FloatArray) -> npt.NDArray[np.int8]:
    largest = np.abs(features).max(axis=1, keepdims=True)
    return np.rint(features * (INT8_LARGEST / largest)).astype(np.int8)
