"""One request and its answer, as far as more than one part of the gateway cares about it."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonclip_server.gateway.access.keys import Key
from tritonclip_server.gateway.admission.byte_budget import Hold
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.timeline import Stage, Timeline
from tritonclip_server.gateway.http.trace_context import PassedTrace, Trace
from tritonclip_server.gateway.responses.error_formats import ErrorFormat

_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


@dataclass
class RequestContext:
    """What is known of a request from its headers, and what its answer's headers will say besides."""

    request_id: str
    deadline: float  # on the event loop's clock
    request_headers: dict[str, str] = field(default_factory=dict)
    key: Key | None = None
    model: str | None = None  # the name of the model that it is for, once that is chosen; "" of one without a name
    headers: dict[str, str] = field(default_factory=dict)  # of the answer
    status: int | None = None  # of the answer, once it has begun
    code: str | None = None  # of the error that it is
    error_format: ErrorFormat | None = None  # in which it is told, where that depends on the request's body
    peer: str = ""  # the address it came from
    hold: Hold | None = None  # the bytes it holds: routes add what they decode and fetch
    body_is_read: bool = True  # where it is not, the connection ends with the answer
    trace: Trace = field(default_factory=lambda: PassedTrace({}))
    timeline: Timeline = field(default_factory=Timeline)
    model_id: str | None = None  # what the API calls that model, once it has answered
    images: int = 0
    texts: int = 0

    @property
    def caller(self) -> str:
        """Whose it is, for what is shared out among callers: the key's or, where none is asked for, the peer's."""
        return self.key.id if self.key is not None else self.peer

    def hold_more(self, count: int) -> None:
        """Count bytes that come on top of the body, until the answer; ApiError where there is no room for them."""
        if self.hold is not None:
            self.hold.grow(count)

    def stage(self, name: str, *, call: str | None = None) -> Stage:
        """Count the time of this block to a stage of the request, and make it a part of its trace.

        A block that is a `call` of the model server gets the headers by which that joins the trace.
        """
        return Stage(self.timeline, name, self.trace.span(call or name, call=call is not None))

    @property
    def seconds_left(self) -> float:
        """What the engine may still take."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())


def headers_of(scope: Any) -> dict[str, str]:
    """The headers by name; the values of one that comes several times are a list, as in HTTP: two hosts are none."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a request comes with a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def open_context(scope: Any, seconds: float) -> RequestContext:
    """Put a context into an ASGI scope. A request id that the caller sends is kept, so that logs can be joined."""
    headers = headers_of(scope)
    given = headers.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
    context = RequestContext(request_id, asyncio.get_running_loop().time() + seconds, headers)
    context.trace = PassedTrace(headers)
    context.peer = (scope.get("client") or ("",))[0]
    scope.setdefault("state", {})["context"] = context
    return context


def context_of(scope: Any) -> RequestContext:
    """The context of an ASGI scope."""
    context: RequestContext = scope["state"]["context"]
    return context


def shorten_deadline(context: RequestContext) -> None:
    """Heed `x-request-timeout`, the seconds after which the caller will not wait any longer."""
    given = context.request_headers.get("x-request-timeout")
    if given is None:
        return
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ApiError("invalid_header", "must be a number of seconds", param="x-request-timeout")
    context.deadline = min(context.deadline, asyncio.get_running_loop().time() + seconds)
