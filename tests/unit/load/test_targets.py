"""The ways in, over real gRPC and HTTP on loopback: right answers come through, and each failure by its name."""

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from load.core.clients_asyncio import (
    Disconnected,
    Failed,
    GatewayTarget,
    GrpcTarget,
    HttpTarget,
    Malformed,
    Refused,
    Target,
    Unanswered,
)
from load.core.generator import Traffic
from load.core.operations import EmbedImages, EmbedTexts
from load.core.probe import WrongModel
from load.core.questions import about_both, about_images, about_texts, check_probe
from tests.unit.client.wire_servers import serve_grpc, serve_http
from tritonclip._errors import status_error
from tritonclip.testing import FakeServer, features_of

IMAGES = [b"a cat", b"a dog", b"a bird"]
Made = tuple[FakeServer, Callable[[], Target]]


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest) -> Iterator[Made]:
    fake = FakeServer()
    serve: Any = serve_grpc if request.param == "grpc" else serve_http
    kind = GrpcTarget if request.param == "grpc" else HttpTarget
    with serve(fake) as (url, _):
        yield fake, lambda: kind(url)


def run(make: Callable[[], Target], what: Callable[[Target], Any]) -> Any:
    async def main() -> Any:
        target = make()
        try:
            return await what(target)
        finally:
            await target.close()

    return asyncio.run(main())


def embed(target: Target, deadline: float = 10.0) -> Any:
    return target.send(target.prepare(EmbedImages(IMAGES)), deadline)


def test_vectors_come_through(triton: Made) -> None:
    _, make = triton
    assert np.array_equal(run(make, embed), np.stack([features_of(image, 16) for image in IMAGES]))


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
    fake._before = lambda call: answered.wait(30)
    try:
        with pytest.raises(Unanswered):
            run(make, lambda target: embed(target, deadline=0.3))
    finally:
        answered.set()


@pytest.mark.parametrize("make", [GrpcTarget, HttpTarget, GatewayTarget])
def test_nobody_listens(make: Callable[[str], Target], free_port: int) -> None:
    scheme = "grpc" if make is GrpcTarget else "http"
    with pytest.raises(Disconnected):
        run(lambda: make(f"{scheme}://127.0.0.1:{free_port}"), embed)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_questions_of_all_kinds_are_answered_rightly(triton: Made) -> None:
    _, make = triton
    texts = ["a cat", "a dog"]

    async def ask(target: Target) -> list[str]:
        questions = [
            *await about_images(target, IMAGES, per_request=2),
            *await about_texts(target, texts),
            *await about_both(target, IMAGES, texts, per_request=4),
        ]
        samples = [await Traffic(target, questions).ask(question, 0.0) for question in questions]
        return [sample.outcome.value for sample in samples]

    assert run(make, ask) == ["answered"] * 8


def test_another_item_s_vector_is_wrong(triton: Made) -> None:
    """A server that mixes up the images of a batch, from one moment on."""
    fake, make = triton

    async def ask(target: Target) -> list[str]:
        questions = await about_images(target, IMAGES, per_request=2)
        right = fake._embed
        fake._embed = lambda tensor, model: right(tensor, model)[::-1]  # type: ignore[method-assign]
        return [(await Traffic(target, []).ask(question, 0.0)).outcome.value for question in questions]

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
        run(make, lambda target: check_probe(target, probe))

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
            run(lambda: GatewayTarget(url), lambda target: target.send(target.prepare(EmbedTexts(["a cat"])), 10.0))
