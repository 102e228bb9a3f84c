"""Clients for load from one event loop: one request, no retries, no copies that can be made beforehand.

What is sent and how it is read is in `load.core.protocols`, with the RequestProblems that `send` raises. A client
belongs to the event loop that runs when it is made. No load goes through a proxy: it would be the proxy that is
measured.

The deadline is kept on this side alone, so that a server which answers too late and one that never does are told apart
by how long the caller is willing to wait.
"""

import asyncio

import aiohttp
import grpc
import grpc.aio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from load.core.protocols import (
    Disconnected,
    GatewayProtocol,
    GrpcProtocol,
    HttpProtocol,
    Prepared,
    Unanswered,
    problem,
)
from load.core.sender import AsyncClient
from tritonclip.protocol import FloatArray, parse_url
from tritonclip.protocol.grpc_transport import CHANNEL_OPTIONS, channel_target, translate_error

# Servers close connections that idle (uvicorn after 5 s). Whoever sends on one just then gets no answer, so we close
# ours before: a request that fails is to be the server's fault.
IDLE_SECONDS = 2.0


class GrpcClient(GrpcProtocol):
    """Triton over one gRPC channel; `url` is grpc://HOST:PORT, with ?model=NAME where it carries several."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        super().__init__(self._url.model)
        options = [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.insecure_channel(channel_target(self._url), options=options)
        self._infer = GRPCInferenceServiceStub(self._channel).ModelInfer

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One ModelInfer."""
        try:
            message = await self._infer(request.message, timeout=deadline)
        except grpc.RpcError as error:
            connected = self._channel.get_state() is grpc.ChannelConnectivity.READY
            raise problem(translate_error(error, request.call, self._url, connected=connected)) from error
        return self.read(request, message)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class HttpClient:
    """Triton or the gateway over pooled HTTP connections, as many as there are requests under way.

    aiohttp, since httpx costs several times the CPU, which the server under load needs itself.
    """

    def __init__(self, protocol: HttpProtocol, url: str) -> None:
        self.name, self.prepare = protocol.name, protocol.prepare
        self._read = protocol.read
        self._url = url.rstrip("/")
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        post = request.message
        try:
            async with (
                asyncio.timeout(deadline),
                self._session.post(self._url + post.path, data=post.content, headers=post.headers) as answer,
            ):
                body = await answer.read()
        except TimeoutError as error:
            raise Unanswered(f"nothing within {deadline:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(repr(error)) from error
        return self._read(request, answer.status, answer.headers, body)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def open_client(name: str, url: str, api_key: str | None = None) -> AsyncClient:
    """A client by the name of its protocol: grpc, http or gateway (the key is the gateway's)."""
    if name == "grpc":
        return GrpcClient(url)
    if name == "http":
        parsed = parse_url(url)
        return HttpClient(HttpProtocol(parsed.model), parsed.server)
    return HttpClient(GatewayProtocol(api_key), url)
