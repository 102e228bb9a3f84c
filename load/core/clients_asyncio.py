"""The three ways in, for load from one event loop: one request, no retries, no copies that can be made beforehand.

What is sent and how it is read is in `load.core.protocols`, with the RequestProblems that `send` raises.

The deadline is kept on this side alone, so that a server which answers too late and one that never does are told apart
by how long the caller is willing to wait.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
import grpc
import grpc.aio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from load.core.operations import Task
from load.core.protocols import (
    CHANNEL_OPTIONS,
    Disconnected,
    Failed,
    GatewayWire,
    GrpcWire,
    HttpWire,
    Malformed,
    Post,
    Prepared,
    Refused,
    RequestProblem,
    Unanswered,
    problem,
    problem_of_status,
)
from tritonclip._messages import FloatArray
from tritonclip._settings import parse_url
from tritonclip._transports import _grpc_common

__all__ = [
    "Disconnected",
    "Failed",
    "GatewayTarget",
    "GrpcTarget",
    "HttpTarget",
    "Malformed",
    "Prepared",
    "Refused",
    "RequestProblem",
    "Target",
    "Unanswered",
]

# Servers close connections that idle (uvicorn after 5 s). Whoever sends on one just then gets no answer, so we close
# ours before: a request that fails is to be the server's fault.
IDLE_SECONDS = 2.0


class Target(Protocol):
    """A way in. It belongs to the event loop in which it sends first."""

    name: str

    def prepare(self, task: Task) -> Prepared:
        """Make the request, outside the clock."""

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """The answer, or a RequestProblem; `deadline` in seconds."""

    async def close(self) -> None:
        """Close all connections."""


class GrpcTarget(GrpcWire):
    """Triton over one gRPC channel; `url` is grpc://HOST:PORT."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._channel: grpc.aio.Channel | None = None
        self._infer: Any = None

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One ModelInfer."""
        if self._channel is None:  # not before: a channel belongs to the running loop
            self._channel = grpc.aio.insecure_channel(_grpc_common.target(self._url), options=CHANNEL_OPTIONS)
            self._infer = GRPCInferenceServiceStub(self._channel).ModelInfer
        try:
            message = await self._infer(request.message, timeout=deadline)
        except grpc.RpcError as error:
            connected = self._channel.get_state() is grpc.ChannelConnectivity.READY
            raise problem(_grpc_common.translate(error, request.call, self._url, connected=connected)) from error
        return self.read(request, message)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


class HttpTarget(HttpWire):
    """Triton over pooled HTTP connections, as many as there are requests under way; `url` is http://HOST:PORT."""

    def __init__(self, url: str) -> None:
        self._pool = _Pool(url)

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        return self.read(request, *await self._pool.post(request.message, deadline))

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class GatewayTarget(GatewayWire):
    """The gateway over pooled HTTP connections; `url` is http://HOST:PORT, `api_key` for one that asks for keys."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        super().__init__(api_key)
        self._pool = _Pool(url)

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        return self.read(request, *await self._pool.post(request.message, deadline))

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class _Pool:
    """HTTP connections. aiohttp, since httpx costs several times the CPU, which the server under load needs itself."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def post(self, message: Post, deadline: float) -> tuple[Mapping[str, str], bytes]:
        """Headers (names in lower case) and body of a 200; anything else is a RequestProblem."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        try:
            async with (
                asyncio.timeout(deadline),
                self._session.post(self._url + message.path, data=message.content, headers=message.headers) as answer,
            ):
                status, body = answer.status, await answer.read()
        except TimeoutError as error:
            raise Unanswered(f"nothing within {deadline:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(repr(error)) from error
        if status == 200:
            return answer.headers, body
        raise problem_of_status(status, body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
