"""Operations to messages and back for each protocol, and what can go wrong: pure, no connections, no event loop.

    prepare(operation) ─> a message, once        read(request, …) ─> float32 [B, D] or [B, N]

    RequestProblem
    ├── Refused         the server is there and takes no more for now: 429, 503, UNAVAILABLE
    ├── Failed          any other error status; `.code` has it
    ├── Disconnected    the connection broke, or there was none to be had
    ├── Unanswered      nothing came within the deadline
    └── Malformed       an answer that cannot be read

`load.core.clients_asyncio` sends these over asyncio, `load.core.clients_gevent` over gevent in Locust's workers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import orjson

from load.core.checks import Outcome
from load.core.operations import Operation
from tritonclip import (
    ConnectError,
    DeadlineExceededError,
    ProtocolError,
    StatusError,
    TritonClipError,
    UnavailableError,
)
from tritonclip.protocol import FloatArray, InferRequest, InferResponse, Reply, grpc_codec, http_codec

OK = 200
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
    """An operation and what is sent for it, which may be sent any number of times."""

    operation: Operation
    call: InferRequest
    message: Any


class GrpcProtocol:
    """Triton's gRPC; messages are protobuf's. `model` names one of several that it carries."""

    name = "grpc"

    def __init__(self, model: str | None = None) -> None:
        self._model = model

    def prepare(self, operation: Operation) -> Prepared:
        """The protobuf message."""
        call = operation.infer(self._model)
        return Prepared(operation, call, grpc_codec.encode(call)[1])

    def read(self, request: Prepared, message: Any) -> FloatArray:
        """The answer of a ModelInferResponse; Malformed where it is none."""
        try:
            return _answer(request, grpc_codec.decode(request.call, message))
        except ProtocolError as error:
            raise Malformed(str(error)) from error


class HttpProtocol:
    """Triton's HTTP with binary tensors; messages are `http_codec.HttpRequest`s. `model` is as in `GrpcProtocol`."""

    name = "http"

    def __init__(self, model: str | None = None) -> None:
        self._model = model

    def prepare(self, operation: Operation) -> Prepared:
        """A binary body with its headers."""
        call = operation.infer(self._model)
        return Prepared(operation, call, http_codec.encode(call))

    def read(self, request: Prepared, status: int, headers: Mapping[str, str], body: bytes) -> FloatArray:
        """The answer of a response (names of headers in lower case); a RequestProblem where it is none."""
        if status != OK:
            reason = body[:REASON_BYTES].decode(errors="replace")
            raise Refused(reason) if status in REFUSALS else Failed(str(status), reason)
        try:
            return self._decode(request, headers, body)
        except (ProtocolError, orjson.JSONDecodeError) as error:
            raise Malformed(str(error)) from error

    def _decode(self, request: Prepared, headers: Mapping[str, str], body: bytes) -> FloatArray:
        return _answer(request, http_codec.decode(request.call, OK, headers, body))


class GatewayProtocol(HttpProtocol):
    """The gateway's JSON, images as data URLs; `api_key` for one that asks for keys."""

    name = "gateway"

    def __init__(self, api_key: str | None = None) -> None:
        super().__init__()
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    def prepare(self, operation: Operation) -> Prepared:
        """A JSON body."""
        path, content = operation.post()
        request = http_codec.HttpRequest("POST", path, self._headers, content)
        return Prepared(operation, operation.infer(), request)

    def _decode(self, request: Prepared, headers: Mapping[str, str], body: bytes) -> FloatArray:  # noqa: ARG002
        return request.operation.read_json(orjson.loads(body))


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
    return request.operation.read(reply)
