"""What a server's error statuses mean, whichever protocol they came over.

    HTTP status ──code_of_http_status──> a code's name, as gRPC has it ──status_error──> StatusError

Nothing reads messages to tell errors apart, but for one of Triton's that has the wrong code.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tritonclip._errors import (
    DeadlineExceededError,
    InputError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RequestCancelledError,
    ResourceExhaustedError,
    ServerError,
    StatusError,
    UnavailableError,
    UnsupportedError,
)

# Every code of grpc.StatusCode but OK, by name: this module imports neither gRPC nor HTTP.
ERROR_BY_CODE: dict[str, type[StatusError]] = {
    "CANCELLED": RequestCancelledError,
    "UNKNOWN": ServerError,
    "INVALID_ARGUMENT": InvalidArgumentError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": ServerError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "UNAUTHENTICATED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "FAILED_PRECONDITION": ServerError,
    "ABORTED": ServerError,
    "UNIMPLEMENTED": UnsupportedError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": ServerError,
    "OUT_OF_RANGE": InvalidArgumentError,
}

# Triton's own statuses, and those of the proxies that stand before it.
CODE_BY_HTTP_STATUS: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    407: "UNAUTHENTICATED",  # by a proxy
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "UNAVAILABLE",  # "too many requests" means what a full queue means: come back later
    499: "UNAVAILABLE",  # cancelled, which nobody here has done: so by the server, as one may that shuts down
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# Triton's words for a model that it has and does not serve at the moment: while it stops, or loads it again. Of a name
# that it does not know it says "is not found".
_NO_VERSION = "has no available versions"

# Where Triton says an item lies, in front of what is wrong with it.
_POSITION = re.compile(r"^(?:in ensemble '[^']*', |\[request id: [^]]*\] )*(?:(?:image|text) \d+: )?")


def code_of_http_status(status: int) -> str:
    """gRPC's name for an HTTP status; UNKNOWN for those that neither Triton nor a proxy is known to send."""
    return CODE_BY_HTTP_STATUS.get(status, "UNKNOWN")


def status_error(code: str, reason: str, model: str | None = None, retry_after: float | None = None) -> StatusError:
    """The error for a status code, with the server's words and the model that was asked."""
    if code == "NOT_FOUND" and reason.rstrip(".").endswith(_NO_VERSION):
        code = "UNAVAILABLE"
    kind = ERROR_BY_CODE.get(code, ServerError)
    return kind(reason, status_code=code, model=model, retry_after=retry_after)


def refused_item(error: StatusError, *, noun: str, index: int) -> InputError:
    """The error of one item that the server refused when it came alone.

    The server's "image 0:" counts inside its request; it is dropped from the words, since the index now stands before
    them.
    """
    refusal = InputError(_POSITION.sub("", error.reason) or error.reason, noun=noun, index=index)
    refusal.__cause__ = error
    return refusal


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds from a Retry-After of seconds or of an HTTP date; None where there is none or it makes no sense."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        seconds = float(value[:12])  # beyond that it is for ever anyway
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
