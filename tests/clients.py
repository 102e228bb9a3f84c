"""Real servers, and the four ways to reach one behind a single blocking face."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import start
from tritonclip import AsyncClient, Client
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.variants import Variant

TRANSPORTS = ("grpc-sync", "grpc-async", "http-sync", "http-async")


@pytest.fixture(scope="session")
def server(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded Triton on the small ConvNeXt."""
    running = start(tiny_repository, tmp_path_factory.mktemp("logs") / "triton.log")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def reference(tiny_repository: Path) -> Checkpoint:
    """The eager open_clip model that `server` serves: random weights are seeded."""
    return load_checkpoint(Variant("tiny-convnext", "none"), random=True)


class BlockingAsyncClient:
    """An AsyncClient in an event loop of its own thread, with the face of Client: one test body serves both."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._client: AsyncClient = self._run(self._make(url, options))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self._run(getattr(self._client, name)(*arguments, **options))

    def close(self) -> None:
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    @staticmethod
    async def _make(url: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(url, **options)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def connect(server: Server, transport: str, **options: Any) -> Any:
    """A client of the server over one of TRANSPORTS."""
    protocol, mode = transport.split("-")
    url = server.grpc_url if protocol == "grpc" else server.http_url
    return Client(url, **options) if mode == "sync" else BlockingAsyncClient(url, **options)


@pytest.fixture(params=TRANSPORTS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """A client over each transport in turn."""
    connected = connect(server, request.param)
    yield connected
    connected.close()
