"""How calls reach a server: the only modules here that do I/O.

A transport sends one call and brings back its reply, or raises an error of ``_errors.py``; it neither retries nor looks
inside. Each is chosen by the URL's scheme, and imported only when it is chosen.
"""

from typing import Protocol

from tritonclip._messages import Call, Reply
from tritonclip._settings import ServerUrl


class Transport(Protocol):
    """Sends calls from any number of threads."""

    def send(self, call: Call, timeout: float) -> Reply:
        """Send a call and wait for its reply, for ``timeout`` seconds at most."""

    def close(self) -> None:
        """Let go of all connections."""


class AsyncTransport(Protocol):
    """Sends calls from any number of tasks of one event loop."""

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the deadline goes on the wire
        """Send a call and wait for its reply, for ``timeout`` seconds at most."""

    async def aclose(self) -> None:
        """Let go of all connections."""


def open_transport(url: ServerUrl, admin_key: str | None) -> Transport:
    """The blocking transport for a URL."""
    if url.is_grpc:
        from tritonclip._transports._grpc_sync import GrpcTransport

        return GrpcTransport(url, admin_key)
    from tritonclip._transports._http_sync import HttpTransport

    return HttpTransport(url, admin_key)


def open_async_transport(url: ServerUrl, admin_key: str | None) -> AsyncTransport:
    """The asyncio transport for a URL."""
    if url.is_grpc:
        from tritonclip._transports._grpc_async import AsyncGrpcTransport

        return AsyncGrpcTransport(url, admin_key)
    from tritonclip._transports._http_async import AsyncHttpTransport

    return AsyncHttpTransport(url, admin_key)
