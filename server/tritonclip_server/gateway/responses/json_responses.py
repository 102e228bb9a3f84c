"""Answers as bytes: JSON by orjson, which writes NumPy rows as they are.

orjson keeps every other thread waiting while it writes, so lists that may be long are written a piece at a time; and
what may be large as a whole, in a thread.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.responses.error_formats import ErrorFormat, openai
from tritonclip_server.gateway.settings import Limits
from tritonclip_server.gateway.threads import LARGE_BYTES, in_thread_if

PIECE_BYTES = 2**18  # of a response that are written in one step
SCORE_BYTES = 16  # of one number of a matrix, as JSON
LABEL_BYTES = 128  # of a label with its four numbers, its text apart


class JsonResponse(Response):
    """JSON that goes out a piece at a time: a socket takes as long over each as its caller is quick to read."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        if len(self.body) <= PIECE_BYTES:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(0, len(self.body), PIECE_BYTES):
            piece, more = self.body[at : at + PIECE_BYTES], at + PIECE_BYTES < len(self.body)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            await asyncio.sleep(0)  # nothing else waits where a caller reads as fast as this writes


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer. What is not a number (the scores of a failed image) becomes null."""
    return JsonResponse(_json(document), status, headers)


async def large_response(build: Callable[[], Any], size: int) -> Response:
    """A JSON answer of some estimated size, whose document is built when there is a thread for it."""
    return await in_thread_if(size >= LARGE_BYTES, lambda: json_response(build()))


def json_list(items: Iterable[Any]) -> orjson.Fragment:
    """A list, each of its items written by itself."""
    return orjson.Fragment(b"[" + b",".join(map(_json, items)) + b"]")


def check_size(images: int, columns: int, column_bytes: int, limits: Limits, field: str, *, text_bytes: int = 0) -> int:
    """The bytes of an answer with so many scores for each image, before there is any; ApiError where it is too large.

    The answer is a product of two things that were sent, each of which may be small. `text_bytes` come with each image.
    """
    size = images * (columns * column_bytes + text_bytes)
    if size > limits.answer_bytes:
        message = (
            f"{images} images by {columns} texts or labels make an answer of some {size} bytes, more than the limit of "
            f"{limits.answer_bytes}: send fewer, or ask for the best of the labels alone, with top_k"
        )
        raise ApiError("answer_too_large", message, param=field)
    return size


def bytes_of_texts(texts: Iterable[str], most: int) -> int:
    """The most bytes that so many of the texts take as JSON."""
    return sum(sorted((len(orjson.dumps(text)) for text in texts), reverse=True)[:most])


def error_response(error: ApiError, error_format: ErrorFormat = openai) -> Response:
    """The answer that an error is."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
        headers["retry-after-ms"] = str(round(error.retry_after * 1000))  # OpenAI's and Cohere's SDKs heed it first
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(error_format(error), error.status, headers)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
