"""One line for each request that ends in an error: who asked for what, when, and what became of it.

Of a caller's words there is the request id alone, which has no odd characters. Endpoints go by the route's template and
keys by their id: a log has no key, no text, no image and no header.
"""

import logging

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
    shown = method if method in METHODS else "OTHER"
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
