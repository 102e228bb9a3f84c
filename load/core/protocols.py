"""Tasks to messages and back for each way in, and what can go wrong: pure, no connections, no event loop.

    prepare(task) ─> a message, once        read(request, …) ─> float32 [B, D] or [B, N]

    RequestProblem
    ├── Refused         the server is there and takes no more for now: 429, 503, UNAVAILABLE
    ├── Failed          any other error status; `.code` has it
    ├── Disconnected    the connection broke, or there was none to be had
    ├── Unanswered      nothing came within the deadline
    └── Malformed       an answer that cannot be read

`load.core.clients_asyncio` sends these over asyncio, `load.core.clients_gevent` over gevent in Locust's workers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import orjson

from load.core.checks import Outcome
from load.core.operations import Task
from tritonclip import _codec_grpc, _codec_http
from tritonclip._errors import (
    ConnectError,
    DeadlineExceededError,
    ProtocolError,
    StatusError,
    TritonClipError,
    UnavailableError,
)
from tritonclip._messages import FloatArray, InferRequest, InferResponse, Reply
from tritonclip._transports import _grpc_common

# Of gRPC channels. No load goes through a proxy, over HTTP neither: it would be the proxy that is measured.
CHANNEL_OPTIONS = [*_grpc_common.OPTIONS, ("grpc.enable_http_proxy", 0)]
REFUSALS = (429, 503)
REASON_BYTES = 300  # of an error's body are worth showing


class RequestProblem(Exception):
    """Why a request has no answer; `outcome` is what that counts as while the server runs."""

    outcome: ClassVar[Outcome] = Outcome.FAILED


class Refused(RequestProblem):
    """Overloaded: come back later."""

    outcome = Outcome.REFUSED


class Failed(RequestProblem):
    """The server answered with another error; `code` is the HTTP status or the name of gRPC's code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Disconnected(RequestProblem):
    """The connection broke or was never made."""


class Unanswered(RequestProblem):
    """Nothing came within the deadline."""

    outcome = Outcome.HUNG


class Malformed(RequestProblem):
    """What came is not an answer."""

    outcome = Outcome.WRONG


class Prepared(NamedTuple):
    """A task and what is sent for it, which may be sent any number of times."""

    task: Task
    call: InferRequest
    message: Any


class Post(NamedTuple):
    """An HTTP request: its path below the server's URL, body and headers."""

    path: str
    content: bytes
    headers: Mapping[str, str]


class PostWire(Protocol):
    """A way in over HTTP: each prepared message is a Post."""

    name: str

    def prepare(self, task: Task) -> Prepared:
        """Make the request, outside the clock."""

    def read(self, request: Prepared, headers: Mapping[str, str], body: bytes) -> FloatArray:
        """The answer of a 200 (names of headers in lower case); Malformed where it is none."""


class GrpcWire:
    """Triton's gRPC."""

    name = "grpc"

    def prepare(self, task: Task) -> Prepared:
        """The protobuf message."""
        call = task.infer()
        return Prepared(task, call, _codec_grpc.encode(call)[1])

    def read(self, request: Prepared, message: Any) -> FloatArray:
        """The answer of a ModelInferResponse; Malformed where it is none."""
        try:
            return _answer(request, _codec_grpc.decode(request.call, message))
        except ProtocolError as error:
            raise Malformed(str(error)) from error


class HttpWire:
    """Triton's HTTP, with binary tensors."""

    name = "http"

    def prepare(self, task: Task) -> Prepared:
        """A binary body with its headers."""
        call = task.infer()
        message = _codec_http.encode(call)
        return Prepared(task, call, Post(message.path, message.content, message.headers))

    def read(self, request: Prepared, headers: Mapping[str, str], body: bytes) -> FloatArray:
        """The answer of a 200."""
        try:
            return _answer(request, _codec_http.decode(request.call, 200, headers, body))
        except ProtocolError as error:
            raise Malformed(str(error)) from error


class GatewayWire:
    """The gateway's JSON; `api_key` for one that asks for keys."""

    name = "gateway"

    def __init__(self, api_key: str | None = None) -> None:
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    def prepare(self, task: Task) -> Prepared:
        """A JSON body, images as data URLs."""
        path, content = task.post()
        return Prepared(task, task.infer(), Post(path, content, self._headers))

    def read(self, request: Prepared, headers: Mapping[str, str], body: bytes) -> FloatArray:  # noqa: ARG002
        """The answer of a 200."""
        try:
            return request.task.read_json(orjson.loads(body))
        except (ProtocolError, orjson.JSONDecodeError) as error:
            raise Malformed(str(error)) from error


def problem_of_status(status: int, body: bytes) -> RequestProblem:
    """The problem behind an HTTP status that is not 200."""
    reason = body[:REASON_BYTES].decode(errors="replace")
    return Refused(reason) if status in REFUSALS else Failed(str(status), reason)


def problem(error: TritonClipError) -> RequestProblem:
    """The problem behind an error of the client's package."""
    if isinstance(error, UnavailableError):
        return Refused(error.reason)
    if isinstance(error, DeadlineExceededError):  # Triton has no deadlines of its own: it is ours that passed
        return Unanswered(error.reason)
    if isinstance(error, StatusError):
        return Failed(error.status_code, error.reason)
    return Disconnected(str(error)) if isinstance(error, ConnectError) else Malformed(str(error))


def _answer(request: Prepared, reply: Reply) -> FloatArray:
    if not isinstance(reply, InferResponse):
        raise ProtocolError(f"a {type(reply).__name__} in place of an inference")
    return request.task.read(reply)
