"""One test body for all transports: ``wire`` is a real server with a way to run operations over it, four ways."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.client.wire_servers import serve_grpc, serve_http
from tritonclip import AsyncClient, Client
from tritonclip.testing import FakeServer


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITONCLIP_URL", "TRITONCLIP_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Wire:
    """A server's URL, and a client for it, blocking or not, behind one blocking face."""

    def __init__(self, url: str, fake: FakeServer, server: Any, *, is_async: bool) -> None:
        self.url = url
        self.fake = fake
        self.server = server
        self.is_async = is_async

    def run(self, operation: Callable[[Any], Any], **options: Any) -> Any:
        """Run ``operation(client)`` with a new client; what it returns is awaited where the client is asynchronous."""
        if not self.is_async:
            with Client(self.url, **options) as client:
                return operation(client)

        async def main() -> Any:
            async with AsyncClient(self.url, **options) as client:
                return await operation(client)

        return asyncio.run(main())


@pytest.fixture(params=["grpc", "grpc-async", "http", "http-async"])
def wire(request: pytest.FixtureRequest, fake: FakeServer) -> Iterator[Wire]:
    serve: Any = serve_grpc if request.param.startswith("grpc") else serve_http
    with serve(fake) as (url, server):
        yield Wire(url, fake, server, is_async=request.param.endswith("async"))
