"""What can go wrong, as one tree.

::

    TritonClipError
    ├── ConfigError                 an argument, a URL or a template that cannot be used (also a ValueError)
    ├── InputError                  one item cannot be used; .index, .reason
    ├── ConnectError                no server answered; .url
    ├── ClosedError                 the client was closed before, or meanwhile
    ├── ProtocolError               the answer is not what the server's contract says
    └── StatusError                 the server refused or failed; .status_code, .model, .retry_after
        ├── InvalidArgumentError    INVALID_ARGUMENT, OUT_OF_RANGE
        ├── PermissionDeniedError   PERMISSION_DENIED, UNAUTHENTICATED
        ├── NotFoundError           NOT_FOUND
        ├── ResourceExhaustedError  RESOURCE_EXHAUSTED: the request is too large
        ├── UnavailableError        UNAVAILABLE: the queue is full, come back later
        ├── DeadlineExceededError   DEADLINE_EXCEEDED: no answer within the timeout
        ├── RequestCancelledError   CANCELLED
        ├── UnsupportedError        UNIMPLEMENTED
        └── ServerError             INTERNAL and whatever else went wrong inside the server

A transport maps its library's errors to these once, through the two tables below; nothing reads messages to tell errors
apart, but for one of Triton's that has the wrong code. HTTP statuses become the same codes as gRPC's, so a caller never
learns which transport was used.
"""

import re


class TritonClipError(Exception):
    """The root of everything that this package raises by design."""


class ConfigError(TritonClipError, ValueError):
    """An argument, a URL or a template that cannot be used."""


class InputError(TritonClipError):
    """One item cannot be used: of a wrong type, unreadable, or refused by the server.

    ``index`` is the item's position in what the caller gave (None where the whole argument is wrong), ``reason`` says
    what is wrong with it. Where the server refused it, ``__cause__`` is the StatusError.
    """

    def __init__(self, reason: str, *, noun: str = "item", index: int | None = None) -> None:
        super().__init__(f"{noun} {index}: {reason}" if index is not None else reason)
        self.reason = reason
        self.noun = noun
        self.index = index

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_input_error, (self.reason, self.noun, self.index)


class ConnectError(TritonClipError):
    """No server answered at ``url``: nothing listens there, the name is unknown, or the connection broke."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no server answered at {url}: {reason}")
        self.url = url
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url, self.reason)


class ClosedError(TritonClipError):
    """The client was closed: before the request, or while it was under way."""


class ProtocolError(TritonClipError):
    """The server's answer is malformed, or is not what its contract promises."""


class StatusError(TritonClipError):
    """The server answered with an error.

    ``status_code`` is gRPC's name of it ("UNAVAILABLE"), ``model`` the model asked (None for the server itself),
    ``reason`` the server's own words, ``retry_after`` the seconds that it asks to wait (None where it does not).
    """

    def __init__(
        self, reason: str, *, status_code: str, model: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{model or 'server'}: {status_code}: {reason}")
        self.reason = reason
        self.status_code = status_code
        self.model = model
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return status_error, (self.status_code, self.reason, self.model, self.retry_after)


class InvalidArgumentError(StatusError):
    """The server refused what the request holds."""


class PermissionDeniedError(StatusError):
    """The server wants a key or other credentials for this."""


class NotFoundError(StatusError):
    """The server has no such model."""


class ResourceExhaustedError(StatusError):
    """The request is too large for the server."""


class UnavailableError(StatusError):
    """The server is overloaded or starting; the same request may succeed later."""


class DeadlineExceededError(StatusError):
    """No answer came within the timeout."""


class RequestCancelledError(StatusError):
    """The request was cancelled, on either side."""


class UnsupportedError(StatusError):
    """The server cannot do this."""


class ServerError(StatusError):
    """The server failed."""


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
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# Triton's words for a model that it has and does not serve at the moment: while it stops, or loads it again. Of a name
# that it does not know it says "is not found".
_NO_VERSION = "has no available versions"


def code_of_http_status(status: int) -> str:
    """gRPC's name for an HTTP status; UNKNOWN for those that neither Triton nor a proxy is known to send."""
    return CODE_BY_HTTP_STATUS.get(status, "UNKNOWN")


def status_error(code: str, reason: str, model: str | None = None, retry_after: float | None = None) -> StatusError:
    """The error for a status code, with the server's words and the model that was asked."""
    if code == "NOT_FOUND" and reason.rstrip(".").endswith(_NO_VERSION):
        code = "UNAVAILABLE"
    kind = ERROR_BY_CODE.get(code, ServerError)
    return kind(reason, status_code=code, model=model, retry_after=retry_after)


_POSITION = re.compile(r"^(?:in ensemble '[^']*', |\[request id: [^]]*\] )*(?:(?:image|text) \d+: )?")


def refused_item(error: StatusError, *, noun: str, index: int) -> InputError:
    """The error of one item that the server refused when it came alone.

    The server's "image 0:" counts inside its request; it is dropped from the words, since the index now stands before
    them.
    """
    refusal = InputError(_POSITION.sub("", error.reason) or error.reason, noun=noun, index=index)
    refusal.__cause__ = error
    return refusal


def _rebuild_input_error(reason: str, noun: str, index: int | None) -> InputError:
    return InputError(reason, noun=noun, index=index)
