"""What is told of a request that has ended: who asked for what, when, and what became of it.

    log_failure          a line of the log, for each one that ends in an error
    line_of              a line of JSON for every one (`--log-requests`), with the milliseconds of its stages
    attributes_of        what its span says (OpenTelemetry)

Of a caller's words there are the request id and the trace's alone, which have no odd characters. Endpoints go by the
route's template and keys by their id: none of them has a key, a text, an image or another header.
"""

import logging
from collections.abc import Mapping
from typing import Any

from tritonclip_server.gateway.errors import STATUSES
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.logs import printable, trace

log = logging.getLogger("gateway.request")

AWAY = frozenset({STATUSES["engine_unavailable"], STATUSES["timeout"]})  # what passes by itself, or by hands elsewhere
METHODS = frozenset({"-", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def log_failure(
    context: RequestContext, *, method: str, endpoint: str, status: int, seconds: float, error: Exception | None = None
) -> None:
    """Log a request that was answered with an error, or that nobody waited for.

    `error` is what ended it: of one that was not foreseen the log has the traceback, of a model server that failed its
    own words, which callers do not see. What it says against an item may quote that, and is not logged.
    """
    code = context.code or "-"
    key = context.key.id if context.key is not None else "-"
    shown = known_method(method)
    message = f"request={context.request_id} key={key} {shown} {endpoint} status={status} code={code} {seconds:.3f}s"
    cause = error.__cause__ if error is not None else None
    unforeseen = cause is not None and context.code == "internal_error"
    if cause is not None and not unforeseen and status >= 500:
        message += f" ({type(cause).__name__}: {printable(str(cause))})"
    level = logging.INFO if status < 500 else logging.WARNING if status in AWAY else logging.ERROR
    if not log.isEnabledFor(level):
        return
    kind = f"key={key} {shown} {endpoint} status={status} code={code}"
    record = log.makeRecord(log.name, level, __file__, 0, message, (), None, extra={"kind": kind})
    if unforeseen and cause is not None:
        record.exc_text = trace(cause)  # in place of `exc_info`, which any handler would write with the error's words
    log.handle(record)


def line_of(
    context: RequestContext, *, method: str, endpoint: str, status: int, seconds: float, stages: Mapping[str, float]
) -> dict[str, Any]:
    """The line of a request; what it does not have is null. Stages side by side may be longer than the request."""
    return {
        "request": context.request_id,
        "trace": context.trace.id,
        "key": context.key.id if context.key is not None else None,
        "method": known_method(method),
        "endpoint": endpoint,
        "model": context.model_id,
        "images": context.images,
        "texts": context.texts,
        "status": status,
        "code": context.code,
        "ms": _milliseconds(seconds),
        "stages": {name: _milliseconds(value) for name, value in stages.items()},
    }


def attributes_of(context: RequestContext, *, endpoint: str, status: int) -> dict[str, str | int]:
    """The attributes of a request's span."""
    attributes: dict[str, str | int | None] = {
        "http.route": endpoint,
        "http.response.status_code": status,
        "error.type": (context.code or str(status)) if status >= 500 else None,
        "tritonclip.request_id": context.request_id,
        "tritonclip.key_id": context.key.id if context.key is not None else None,
        "tritonclip.model": context.model_id,
        "tritonclip.images": context.images,
        "tritonclip.texts": context.texts,
        "tritonclip.error_code": context.code,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def known_method(method: str) -> str:
    """A method of HTTP by its name; what callers made up has one name."""
    return method if method in METHODS else "OTHER"


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
