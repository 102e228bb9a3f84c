"""Vectors as callers ask for them: what their numbers are, and how those stand in an answer.

    features [N, D], of length 1 ──quantized──> numbers of a dtype ──encoded──> lists, or base64 of their bytes

The dtypes are Cohere's (`embedding_types`) and Voyage's (`output_dtype`); base64 of float32 is OpenAI's. What each
costs in recall is in docs/gateway.md, measured by `python -m tests.sweep.encodings`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pybase64

from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.errors import ApiError

Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]
Format = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
"""A dtype, or base64 in its place, as one field says both in OpenAI's and Jina's requests."""

Numbers = npt.NDArray[Any]
"""Of float32, int8 or uint8."""

INT8_ONE = 127  # what 1 becomes; no component of a vector of length 1 is larger
OFFSET = 128  # between the signed and the unsigned form of a byte


def quantized(features: FloatArray, dtype: Dtype) -> Numbers:
    """Features [N, D], finite and of length 1, as numbers of a dtype.

    | dtype   | result           | a row x becomes |
    |---------|------------------|---|
    | float   | float32 [N, D]   | x |
    | int8    | int8 [N, D]      | round(127 · x), from -127 to 127 |
    | uint8   | uint8 [N, D]     | the int8, plus 128 |
    | ubinary | uint8 [N, ⌈D/8⌉] | a bit for each component, 1 where it is above 0; 8 a byte, the first the highest |
    | binary  | int8 [N, ⌈D/8⌉]  | the ubinary, minus 128 ("offset binary") |

    The scale of int8 is the same for all vectors, so that cosines, dot products and distances order them alike. Bits
    behind the last component are 0.
    """
    if dtype == "float":
        return features.astype("<f4", copy=False)
    if dtype in ("int8", "uint8"):
        whole = np.rint(features * INT8_ONE)
        return np.asarray(whole.astype(np.int8) if dtype == "int8" else (whole + OFFSET).astype(np.uint8))
    bits = np.packbits(features > 0, axis=1)
    return np.asarray(bits if dtype == "ubinary" else (bits.astype(np.int16) - OFFSET).astype(np.int8))


def encoded(features: FloatArray, dtype: Dtype, *, base64: bool = False) -> Sequence[Numbers | str]:
    """A value for each row of features [N, D] (see `quantized`), which orjson writes with OPT_SERIALIZE_NUMPY.

    Either the row's numbers, or base64 of their bytes: float32 little-endian, all else a byte a number.
    """
    rows = quantized(features, dtype)
    return [pybase64.b64encode_as_string(row.tobytes()) for row in rows] if base64 else list(rows)


def encoding_of(encoding_format: Format | None, **types: Format | None) -> tuple[Dtype, bool]:
    """The dtype that a request asks for, and whether in base64; float, as numbers, where it asks for nothing.

    Each field may name a dtype or base64. "float" as `encoding_format` is also OpenAI's word for "as numbers", whatever
    `types` (fields by their names) say these are. Raises ApiError where two fields contradict each other.
    """
    given: dict[str, Format] = {name: value for name, value in types.items() if value is not None}
    base64 = [name for name, value in given.items() if value == "base64"]
    if encoding_format == "float":
        if base64:
            raise _contradiction(base64[0], "encoding_format")
    elif encoding_format is not None:
        given = {"encoding_format": encoding_format, **given}
    dtypes: dict[Dtype, str] = {value: name for name, value in given.items() if value != "base64"}
    if len(dtypes) > 1:
        first, second, *_ = dtypes.values()
        raise _contradiction(second, first)
    return next(iter(dtypes), "float"), "base64" in given.values()


def _contradiction(field: str, other: str) -> ApiError:
    return ApiError("invalid_value", f"says something else than {other}", param=field)
