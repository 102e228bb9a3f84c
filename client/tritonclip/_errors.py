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
        ├── RequestCancelledError   CANCELLED: given up on this side
        ├── UnsupportedError        UNIMPLEMENTED
        └── ServerError             INTERNAL and whatever else went wrong inside the server

A transport maps its library's errors to these once, through the tables of ``protocol/statuses.py``. HTTP statuses
become the same codes as gRPC's, so a caller never learns which transport was used.
"""


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
        return _rebuild_status_error, (type(self), self.reason, self.status_code, self.model, self.retry_after)


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
    """The request was given up on this side. What a server cancels, as it may where it shuts down, is UNAVAILABLE."""


class UnsupportedError(StatusError):
    """The server cannot do this."""


class ServerError(StatusError):
    """The server failed."""


def _rebuild_input_error(reason: str, noun: str, index: int | None) -> InputError:
    return InputError(reason, noun=noun, index=index)


def _rebuild_status_error(
    kind: type[StatusError], reason: str, status_code: str, model: str | None, retry_after: float | None
) -> StatusError:
    return kind(reason, status_code=status_code, model=model, retry_after=retry_after)
