"""Answers as bytes: JSON by orjson, which writes NumPy rows as they are, and vectors in base64."""

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pybase64
from starlette.responses import Response

from gateway.errors import ApiError

FloatArray = npt.NDArray[np.float32]


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer. What is not a number (the scores of a failed image) becomes null."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def error_answer(error: ApiError) -> Response:
    """The envelope of an error."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_answer({"error": error.body()}, error.status, headers)


def vector(row: FloatArray, encoding_format: str) -> FloatArray | str:
    """One embedding as it stands in an answer: numbers, or base64 of little-endian float32."""
    if encoding_format == "float":
        return row
    return pybase64.b64encode_as_string(np.ascontiguousarray(row, dtype="<f4").tobytes())
