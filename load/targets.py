"""The three ways in, for load: one request, no retries, no copies that can be made before the clock starts.

    prepare(task) ─> a message, once        send(message, deadline) ─> float32 [B, D] or [B, N], or one of

    RequestProblem
    ├── Refused         the server is there and takes no more for now: 429, 503, UNAVAILABLE
    ├── Failed          any other error status; `.code` has it
    ├── Disconnected    the connection broke, or there was none to be had
    ├── Unanswered      nothing came within the deadline
    └── Malformed       an answer that cannot be read

The deadline is kept on this side alone, so that a server which answers too late and one that never does are told apart
by how long the caller is willing to wait.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp
import grpc
import grpc.aio
import orjson
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from load.tasks import Task
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
from tritonclip._settings import parse_url
from tritonclip._transports import _grpc_common

REFUSALS = (429, 503)


class RequestProblem(Exception):
    """Why a request has no answer."""


class Refused(RequestProblem):
    """Overloaded: come back later."""


class Failed(RequestProblem):
    """The server answered with another error; `code` is the HTTP status or the name of gRPC's code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Disconnected(RequestProblem):
    """The connection broke or was never made."""


class Unanswered(RequestProblem):
    """Nothing came within the deadline."""


class Malformed(RequestProblem):
    """What came is not an answer."""


class Prepared(NamedTuple):
    """A task and what is sent for it, which may be sent any number of times."""

    task: Task
    call: InferRequest
    message: Any


class Target(Protocol):
    """A way in. It belongs to the event loop in which it sends first."""

    name: str

    def prepare(self, task: Task) -> Prepared:
        """Make the request, outside the clock."""

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """The answer, or a RequestProblem; `deadline` in seconds."""

    async def close(self) -> None:
        """Close all connections."""


class GrpcTarget:
    """Triton over one gRPC channel; `url` is grpc://HOST:PORT."""

    name = "grpc"

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._channel: grpc.aio.Channel | None = None
        self._infer: Any = None

    def prepare(self, task: Task) -> Prepared:
        """The protobuf message."""
        call = task.infer()
        return Prepared(task, call, _codec_grpc.encode(call)[1])

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One ModelInfer."""
        if self._channel is None:  # not before: a channel belongs to the running loop
            self._channel = grpc.aio.insecure_channel(_grpc_common.target(self._url), options=_grpc_common.OPTIONS)
            self._infer = GRPCInferenceServiceStub(self._channel).ModelInfer
        try:
            message = await self._infer(request.message, timeout=deadline)
        except grpc.RpcError as error:
            connected = self._channel.get_state() is grpc.ChannelConnectivity.READY
            raise problem(_grpc_common.translate(error, request.call, self._url, connected=connected)) from error
        try:
            return _read(request, _codec_grpc.decode(request.call, message))
        except ProtocolError as error:
            raise Malformed(str(error)) from error

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


class HttpTarget:
    """Triton over pooled HTTP connections, as many as there are requests under way; `url` is http://HOST:PORT."""

    name = "http"

    def __init__(self, url: str) -> None:
        self._pool = _Pool(url)

    def prepare(self, task: Task) -> Prepared:
        """A binary body with its headers."""
        call = task.infer()
        return Prepared(task, call, _codec_http.encode(call))

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        message = request.message
        headers, body = await self._pool.post(message.path, message.content, message.headers, deadline)
        try:
            return _read(request, _codec_http.decode(request.call, 200, headers, body))
        except ProtocolError as error:
            raise Malformed(str(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class GatewayTarget:
    """The gateway over pooled HTTP connections; `url` is http://HOST:PORT, `api_key` for one that asks for keys."""

    name = "gateway"

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._pool = _Pool(url)
        self._headers = {"content-type": "application/json"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"

    def prepare(self, task: Task) -> Prepared:
        """A JSON body, images as data URLs."""
        return Prepared(task, task.infer(), task.post())

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        path, content = request.message
        _, body = await self._pool.post(path, content, self._headers, deadline)
        try:
            return request.task.read_json(orjson.loads(body))
        except (ProtocolError, orjson.JSONDecodeError) as error:
            raise Malformed(str(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class _Pool:
    """HTTP connections. aiohttp, since httpx costs several times the CPU, which the server under load needs itself."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str, content: bytes, headers: Mapping[str, str], deadline: float
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers (names in lower case) and body of a 200; anything else is a RequestProblem."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        try:
            async with (
                asyncio.timeout(deadline),
                self._session.post(self._url + path, data=content, headers=headers) as answer,
            ):
                status, body = answer.status, await answer.read()
        except TimeoutError as error:
            raise Unanswered(f"nothing within {deadline:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(repr(error)) from error
        if status == 200:
            return answer.headers, body
        reason = body[:300].decode(errors="replace")
        raise Refused(reason) if status in REFUSALS else Failed(str(status), reason)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def problem(error: TritonClipError) -> RequestProblem:
    """The problem behind an error of the client's package."""
    if isinstance(error, UnavailableError):
        return Refused(error.reason)
    if isinstance(error, DeadlineExceededError):  # Triton has no deadlines of its own: it is ours that passed
        return Unanswered(error.reason)
    if isinstance(error, StatusError):
        return Failed(error.status_code, error.reason)
    return Disconnected(str(error)) if isinstance(error, ConnectError) else Malformed(str(error))


def _read(request: Prepared, reply: Reply) -> FloatArray:
    if not isinstance(reply, InferResponse):
        raise ProtocolError(f"a {type(reply).__name__} in place of an inference")
    return request.task.read(reply)
