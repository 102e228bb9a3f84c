"""How calls reach a server: transports do all the I/O there is.

    start(call) ──codec──> a channel: gRPC's or HTTP connections ──> the server ──codec──> Future[Reply]

A transport starts one call and gives a future of its reply or of a TritonClipError; it neither retries nor looks
inside. ``_channels`` has what is the same for gRPC and HTTP: when a channel is opened, replaced and closed. Blocking
and asynchronous clients use the same transports, and differ in how they wait. Each is chosen by the URL's scheme, and
imported only when it is chosen. ``_balancing`` puts one before several servers.
"""

from concurrent.futures import Future
from typing import Protocol

from tritonclip.protocol import _forks
from tritonclip.protocol._futures import result_of, start_thread
from tritonclip.protocol.connection import Connection, each_server
from tritonclip.protocol.messages import Call, Reply


class Transport(Protocol):
    """Sends calls from any number of threads."""

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Send a call; its reply comes within ``timeout`` seconds. Cancelling the future gives the call up.

        The future, or this method itself, raises ConnectError where no server answers, a StatusError where it refuses
        or fails (DeadlineExceededError after the timeout), ProtocolError where its answer cannot be read, and
        ClosedError once the transport is closed.
        """

    def close(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""


class AsyncTransport(Protocol):
    """Sends calls from any number of tasks."""

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the deadline goes on the wire
        """Send a call and wait for its reply, for ``timeout`` seconds at most; raises what ``Transport.start`` does."""

    async def aclose(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""


class AsyncAdapter:
    """A transport as asyncio waits for it, on any number of event loops, since none of them owns its connections."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the deadline goes on the wire
        """Send a call and wait for its reply."""
        return await result_of(self._transport.start(call, timeout))

    async def aclose(self) -> None:
        """Let go of all connections."""
        await result_of(start_thread(self._transport.close))


def open_transport(connection: Connection) -> Transport:
    """The transport for a connection; nothing is sent yet. Raises ConfigError where its files cannot be used."""
    transports = {str(server.url): _open(server) for server in each_server(connection)}
    if len(transports) == 1:
        return next(iter(transports.values()))
    from tritonclip.protocol._balancing import BalancedTransport

    return BalancedTransport(transports)


def open_async_transport(connection: Connection) -> AsyncTransport:
    """The same for asyncio."""
    return AsyncAdapter(open_transport(connection))


def _open(connection: Connection) -> Transport:
    if connection.url.is_grpc:
        with _forks.grpc_support():
            from tritonclip.protocol.grpc_transport import GrpcTransport

        return GrpcTransport(connection)
    from tritonclip.protocol.http_transport import HttpTransport

    return HttpTransport(connection)
