"""How calls reach a server: the only modules here that do I/O.

    start(call) ──codec──> a line: gRPC channel or HTTP connections ──> the server ──codec──> Future[Reply]

A transport starts one call and gives a future of its reply or of an error of ``_errors.py``; it neither retries nor
looks inside. ``_lines`` has what is the same for gRPC and HTTP: when a line is opened, replaced and closed. Blocking
and asynchronous clients use the same transports, and differ in how they wait. Each is chosen by the URL's scheme, and
imported only when it is chosen.
"""

from concurrent.futures import Future
from typing import Protocol

from tritonclip import _forks
from tritonclip._futures import result_of, start_thread
from tritonclip._messages import Call, Reply
from tritonclip._settings import Connection


class Transport(Protocol):
    """Sends calls from any number of threads."""

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Send a call; its reply comes within ``timeout`` seconds. Cancelling the future gives the call up."""

    def close(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""


class AsyncTransport(Protocol):
    """Sends calls from any number of tasks."""

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the deadline goes on the wire
        """Send a call and wait for its reply, for ``timeout`` seconds at most."""

    async def aclose(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""


class Awaited:
    """A transport for asyncio: of any number of event loops, since none of them owns its connections."""

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
    if connection.url.is_grpc:
        with _forks.grpc_support():
            from tritonclip._transports._grpc import GrpcTransport

        return GrpcTransport(connection)
    from tritonclip._transports._http import HttpTransport

    return HttpTransport(connection)
