"""One test body for all transports: ``wire`` is a real server with a way to run operations over it, four ways."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.ports import kept_port
from tests.unit.client.wire_servers import serve_grpc, serve_http
from tritonclip import AsyncClient, Client, Embeddings
from tritonclip.cli import main
from tritonclip.testing import FakeServer


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TRITONCLIP_") or name.lower().endswith("_proxy") or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def free_port() -> Iterator[int]:
    with kept_port() as port:
        yield port


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


OnError = Literal["raise", "return"]
Embed = Callable[..., Embeddings]


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    """Embed images on a fake server, by either client."""

    def run_sync(fake: FakeServer, images: Any, on_error: OnError = "raise", **options: Any) -> Embeddings:
        with Client(transport=fake.transport(), **options) as client:
            return client.embed_images(images, on_error=on_error)

    def run_async(fake: FakeServer, images: Any, on_error: OnError = "raise", **options: Any) -> Embeddings:
        async def main() -> Embeddings:
            async with AsyncClient(transport=fake.async_transport(), **options) as client:
                return await client.embed_images(images, on_error=on_error)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


class Command:
    """Runs the command on a fake server and keeps what it printed."""

    def __init__(self, fake: FakeServer, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.fake = fake
        self.capture = capsysbinary
        self.asked: list[tuple[str | None, float]] = []
        self.out = b""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        def client(url: str | None, *, timeout: float) -> Client:
            self.asked.append((url, timeout))
            return Client(url, timeout=timeout, transport=self.fake.transport())

        code = main(arguments, client=client)
        captured = self.capture.readouterr()
        self.out, self.err = captured.out, captured.err.decode()
        return code

    @property
    def text(self) -> str:
        return self.out.decode()


@pytest.fixture
def command(fake: FakeServer, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    return Command(fake, capsysbinary)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / f"{name}.jpg").write_bytes(f"a photo of a {name}".encode())
    (tmp_path / "broken.jpg").write_bytes(b"bad")
    monkeypatch.chdir(tmp_path)
    return tmp_path
