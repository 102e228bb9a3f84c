"""The ways in, over real gRPC and HTTP on loopback: right answers come through, and each failure by its name."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from load.core.clients_asyncio import open_client
from load.core.generator import Generator
from load.core.operations import EmbedImages, EmbedTexts
from load.core.protocols import Disconnected, Failed, Malformed, Refused, Unanswered
from load.core.sender import AsyncClient
from load.core.workload import Answers, Question, WrongModel, ask_async, learn
from tests.ports import kept_port
from tests.unit.client.wire_servers import serve_grpc, serve_http
from tritonclip.protocol import status_error
from tritonclip.testing import FakeServer, features_of

IMAGES = [b"a cat", b"a dog", b"a bird"]
Made = tuple[FakeServer, Callable[[], AsyncClient]]


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest) -> Iterator[Made]:
    fake = FakeServer()
    serve: Any = serve_grpc if request.param == "grpc" else serve_http
    with serve(fake) as (url, _):
        yield fake, lambda: open_client(request.param, url)


def run(make: Callable[[], AsyncClient], what: Callable[[AsyncClient], Any]) -> Any:
    async def main() -> Any:
        client = make()
        try:
            return await what(client)
        finally:
            await client.close()

    return asyncio.run(main())


def embed(client: AsyncClient, deadline: float = 10.0) -> Any:
    return client.send(client.prepare(EmbedImages(IMAGES)), deadline)


def test_vectors_come_through(triton: Made) -> None:
    _, make = triton
    assert np.array_equal(run(make, embed), np.stack([features_of(image, 16) for image in IMAGES]))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_model_is_named_in_the_url(protocol: str) -> None:
    serve: Any = serve_grpc if protocol == "grpc" else serve_http
    with serve(FakeServer(model="vit")) as (url, _):
        assert run(lambda: open_client(protocol, f"{url}?model=vit"), embed).shape == (3, 16)
        with pytest.raises(Failed):
            run(lambda: open_client(protocol, url), embed)


def test_no_load_goes_through_a_proxy(triton: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    _, make = triton
    assert len(run(make, embed)) == len(IMAGES)


@pytest.mark.parametrize(
    ("code", "problem"),
    [("UNAVAILABLE", Refused), ("INTERNAL", Failed), ("INVALID_ARGUMENT", Failed), ("NOT_FOUND", Failed)],
)
def test_errors_of_the_server(triton: Made, code: str, problem: type[Exception]) -> None:
    fake, make = triton
    fake.failures.append(status_error(code, "for the test"))
    with pytest.raises(problem, match="for the test"):
        run(make, embed)
    assert len(fake.requests("embed_image")) == 1, "no retries"


def test_no_answer(triton: Made) -> None:
    fake, make = triton
    answered = threading.Event()

    async def ask(client: AsyncClient) -> None:
        await embed(client)  # it is connected from here on: else the short deadline could be of the connection
        fake.before = lambda call: answered.wait(30)
        await embed(client, deadline=0.3)

    try:
        with pytest.raises(Unanswered):
            run(make, ask)
    finally:
        answered.set()


@pytest.mark.parametrize("name", ["grpc", "http", "gateway"])
def test_nobody_listens(name: str, free_port: int) -> None:
    scheme = "grpc" if name == "grpc" else "http"
    with pytest.raises(Disconnected):
        run(lambda: open_client(name, f"{scheme}://127.0.0.1:{free_port}"), embed)


@pytest.fixture
def free_port() -> Iterator[int]:
    with kept_port() as port:
        yield port


async def learned(client: AsyncClient, images: list[bytes], texts: list[str]) -> Answers:
    return await ask_async(client, learn(images, texts))


async def outcomes(client: AsyncClient, questions: list[Question]) -> list[str]:
    generator = Generator(client, [])
    samples = [await generator.ask(client.prepare(asked.operation), asked.check, 0.0) for asked in questions]
    return [sample.outcome.value for sample in samples]


def test_questions_of_all_kinds_are_answered_rightly(triton: Made) -> None:
    _, make = triton

    async def ask(client: AsyncClient) -> list[str]:
        answers = await learned(client, IMAGES, ["a cat", "a dog"])
        texts = [answers.embed_texts([0]), answers.embed_texts([1], ["a dog"])]
        return await outcomes(client, [*answers.about_images(2), *texts, *answers.about_both(4)])

    assert run(make, ask) == ["answered"] * 8


def test_another_item_s_vector_is_wrong(triton: Made) -> None:
    """The images of a batch come in another order than the one that is asked about."""
    _, make = triton

    async def ask(client: AsyncClient) -> list[str]:
        answers = await learned(client, IMAGES, [])
        mixed = [
            Question(EmbedImages(list(reversed(operation.images))), check)
            for operation, check in answers.about_images(2)
        ]
        return await outcomes(client, mixed)

    assert run(make, ask) == ["wrong"] * 3


def probe_of(image: bytes, text: str) -> dict[str, str]:
    def encode(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "image": encode(image),
        "text": text,
        "image_features": encode(features_of(image, 16).astype("<f2").tobytes()),
        "text_features": encode(features_of(text.encode(), 16).astype("<f2").tobytes()),
    }


def test_the_probe(triton: Made) -> None:
    _, make = triton
    right = probe_of(b"a cat", "a dog")

    def check(probe: dict[str, str] | None) -> None:
        run(make, lambda client: ask_async(client, learn([], probe=probe)))

    check(right)
    check(None)
    for name in ("image_features", "text_features"):
        wrong = right | {name: probe_of(b"another", "other")[name]}
        with pytest.raises(WrongModel, match=name):
            check(wrong)


class TestGateway:
    """Statuses and bodies as the gateway writes them; real answers are in tests/e2e."""

    @contextmanager
    def serving(self, status: int, body: bytes) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @pytest.mark.parametrize(
        ("status", "body", "problem"),
        [
            (429, b'{"error": {}}', Refused),
            (503, b"", Refused),
            (500, b"", Failed),
            (502, b"", Failed),
            (504, b"", Failed),
            (400, b"", Failed),
            (200, b"not JSON", Malformed),
            (200, b'{"data": [{"index": 0}]}', Malformed),
            (200, b"[]", Malformed),
        ],
    )
    def test_statuses(self, status: int, body: bytes, problem: type[Exception]) -> None:
        with self.serving(status, body) as url, pytest.raises(problem):
            run(
                lambda: open_client("gateway", url),
                lambda client: client.send(client.prepare(EmbedTexts(["a cat"])), 10.0),
            )
