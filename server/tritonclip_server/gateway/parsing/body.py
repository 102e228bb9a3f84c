"""Request bodies, JSON or multipart, to the `request_models`; ApiError names the field at fault.

    body ─Content-Encoding─> bytes ─┬─ JSON ─> json_body ─┬─> validation
                                    └─ form ─> forms ─────┘

Whatever takes long for a large body is done in a thread, or in parts: other requests have their turn meanwhile.
"""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from starlette.requests import Request

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.request_context import context_of
from tritonclip_server.gateway.parsing.compression import decompressed
from tritonclip_server.gateway.parsing.forms import read_form
from tritonclip_server.gateway.parsing.json_body import read_json
from tritonclip_server.gateway.parsing.request_models import RequestModel
from tritonclip_server.gateway.parsing.validation import validate
from tritonclip_server.gateway.settings import Limits
from tritonclip_server.gateway.threads import LARGE_BYTES, in_thread_if

R = TypeVar("R", bound=RequestModel)
S = TypeVar("S", bound=RequestModel)

LARGE_FORM_BYTES = 2**14  # a form's small parts take their parser, which is Python, 20 us each
_JSON = frozenset({"application/json", "text/json"})
# What programs say that say nothing of their body: Go's, curl's with -d and fetch's with a string. There an object is
# JSON: a form of that kind could not begin so, but for a field whose name does.
_NO_TYPE = frozenset({"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"})
_BLANK = b"\xef\xbb\xbf \t\r\n"
_START = 1024  # bytes in which an object begins


async def read_request(request: Request, model: type[R], limits: Limits) -> R:
    """The request as its model. The body is in memory already, and no larger than it may be."""
    return await read_one_of(request, model, {}, limits)


async def read_one_of(request: Request, model: type[R], others: Mapping[str, type[S]], limits: Limits) -> R | S:
    """The request as its model or, where its JSON has a field that only another API's request has, as that one's."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await _unpacked(request, limits)
    if kind == "multipart/form-data":
        headers = request.headers
        document = await in_thread_if(
            len(body) >= LARGE_FORM_BYTES, lambda: model.from_form(read_form(headers, body, limits))
        )
        return validate(model, document, strict=False)
    if kind not in _JSON and not (kind in _NO_TYPE and body[:_START].lstrip(_BLANK).startswith(b"{")):
        raise ApiError("unsupported_media_type", "send application/json, or multipart/form-data with files")
    document = await in_thread_if(len(body) >= LARGE_BYTES, lambda: read_json(body))
    if not isinstance(document, dict):
        raise ApiError("invalid_json", "the body must be a JSON object")
    other = next((other for field, other in others.items() if field in document), None)
    if other is not None:
        context_of(request.scope).error_format = other.error_format
        return validate(other, other.from_json(document), strict=True)
    return validate(model, model.from_json(document), strict=True)


async def _unpacked(request: Request, limits: Limits) -> bytes:
    """The body without its Content-Encoding. It is not kept in the request, where it would stay until the answer."""
    body = b"".join([part async for part in request.stream() if part])
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    if not encoding:
        return body
    unpacked = await asyncio.to_thread(decompressed, body, encoding, limits.body_bytes)
    context_of(request.scope).hold_more(len(unpacked))
    return unpacked
