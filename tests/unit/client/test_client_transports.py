"""The same behaviour over gRPC and HTTP, blocking and not, against real servers on loopback."""

import asyncio
import contextlib
import itertools
import socket
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from tests.unit.client.conftest import Wire
from tests.unit.client.wire_servers import serve_grpc, serve_http
from tritonclip import (
    AsyncClient,
    Client,
    ConnectError,
    DeadlineExceededError,
    InputError,
    NotFoundError,
    ProtocolError,
    StatusError,
    UnavailableError,
)
from tritonclip.protocol.connection import Connection, parse_url
from tritonclip.protocol.messages import InferRequest, InferResponse, Tensor
from tritonclip.protocol.statuses import CODE_BY_HTTP_STATUS, ERROR_BY_CODE, status_error
from tritonclip.protocol.transport import AsyncAdapter, open_transport
from tritonclip.testing import FakeServer, features_of

CODES = sorted(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
MANIFEST = InferRequest("manifest", (), ("manifest",))


def send_once(wire: Wire, timeout: float = 10.0) -> Any:
    """One call through the bare transport, without retries."""
    return send_in_turn(wire, timeout)


def send_in_turn(wire: Wire, *timeouts: float) -> Any:
    """A call with each of these timeouts, one after another over the same bare transport; the last one's reply."""
    transport = open_transport(Connection(parse_url(wire.url)))
    if not wire.is_async:
        try:
            return [transport.start(MANIFEST, timeout).result() for timeout in timeouts][-1]
        finally:
            transport.close()

    async def main() -> Any:
        awaited = AsyncAdapter(transport)
        try:
            return [await awaited.send(MANIFEST, timeout) for timeout in timeouts][-1]
        finally:
            await awaited.aclose()

    return asyncio.run(main())


def test_embeds_images_in_order(wire: Wire) -> None:
    images = [f"image {number}".encode() for number in range(50)]
    features = wire.run(lambda client: client.embed_images(images)).features
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.stack([features_of(image, 16) for image in images]))
    sizes = [request.inputs[0].shape[0] for request in wire.fake.requests("embed_image")]
    assert sorted(sizes) == [2, 16, 16, 16]


def test_embeds_texts_of_any_script(wire: Wire) -> None:
    texts = ["a cat", "", "猫", "قطة", "🐈\x00", "é" * 1000]
    features = wire.run(lambda client: client.embed_texts(texts)).features
    np.testing.assert_array_equal(features, np.stack([features_of(text.encode(), 16) for text in texts]))


def test_compares_in_one_request(wire: Wire) -> None:
    result = wire.run(lambda client: client.compare([b"a cat", b"a dog"], ["a dog", "a cat", "a cow"]))
    assert result.cosine.shape == result.logits.shape == result.probabilities.shape == (2, 3)
    assert np.argmax(result.probabilities, axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(result.logits, 100 * result.cosine, rtol=1e-5)
    assert [call.model for call in wire.fake.calls if isinstance(call, InferRequest)] == ["manifest", "compare"]


def test_names_the_failing_image(wire: Wire) -> None:
    images = [b"good"] * 20 + [b"bad one"] + [b"good"] * 5
    with pytest.raises(InputError) as caught:
        wire.run(lambda client: client.embed_images(images))
    assert caught.value.index == 20
    assert caught.value.reason == "cannot identify the image format"
    assert str(caught.value) == "image 20: cannot identify the image format"
    assert isinstance(caught.value.__cause__, StatusError)
    assert caught.value.__cause__.status_code == "INVALID_ARGUMENT"
    assert caught.value.__cause__.model == "embed_image"


@pytest.mark.parametrize("wire", ["grpc", "grpc-async"], indirect=True)
@pytest.mark.parametrize("code", CODES)
def test_every_grpc_status_becomes_its_error(code: str, wire: Wire) -> None:
    wire.fake.failures.append(status_error(code, "the server's words", "manifest"))
    with pytest.raises(StatusError) as caught:
        send_once(wire)
    expected = "UNAVAILABLE" if code == "CANCELLED" else code  # by a server that shuts down, not by the caller
    assert type(caught.value) is ERROR_BY_CODE[expected]
    assert caught.value.status_code == expected
    assert caught.value.reason == "the server's words"
    assert caught.value.model == "manifest"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("wire", ["http", "http-async"], indirect=True)
@pytest.mark.parametrize("status", [*CODE_BY_HTTP_STATUS, 302, 418, 599])
def test_every_http_status_becomes_its_error(status: int, wire: Wire) -> None:
    wire.server.force_status = status
    wire.fake.failures.append(status_error("UNKNOWN", "the server's words"))
    with pytest.raises(StatusError) as caught:
        send_once(wire)
    assert caught.value.status_code == CODE_BY_HTTP_STATUS.get(status, "UNKNOWN")
    assert type(caught.value) is ERROR_BY_CODE[caught.value.status_code]
    assert caught.value.reason == "the server's words"


def test_tables_cover_every_status() -> None:
    assert sorted(ERROR_BY_CODE) == CODES
    assert set(CODE_BY_HTTP_STATUS.values()) <= set(CODES)
    assert {400, 401, 403, 404, 408, 413, 429, 499, 500, 501, 503, 504} <= set(CODE_BY_HTTP_STATUS)


def test_what_a_server_cancels_as_it_shuts_down_is_asked_for_again(wire: Wire) -> None:
    wire.fake.failures += [status_error("CANCELLED", "Cancelling all calls", "manifest")] * 2
    assert wire.run(lambda client: client.manifest()) is not None
    assert not wire.fake.failures


def test_a_model_that_is_not_served_at_the_moment_is_waited_for(wire: Wire) -> None:
    """Triton calls it NOT_FOUND while it stops, or loads the model again; a name that it does not know is not found."""

    def missing(how: str) -> NotFoundError:
        return NotFoundError(f"Request for unknown model: 'manifest' {how}", status_code="NOT_FOUND", model="manifest")

    wire.fake.failures += [missing("has no available versions")] * 2
    with pytest.raises(UnavailableError, match="has no available versions"):
        send_once(wire)
    assert wire.run(lambda client: client.manifest()) is not None
    wire.fake.failures.append(missing("is not found"))
    with pytest.raises(NotFoundError):
        wire.run(lambda client: client.manifest())


def test_statistics_without_and_with_the_key(wire: Wire) -> None:
    wire.fake.admin_key = "sesame"
    closed = wire.run(lambda client: client.status())
    assert closed.statistics is None
    assert "admin key" in closed.statistics_note
    assert closed.server_name == "triton"
    assert closed.manifest.fingerprint == "fa4e0000"
    seen = len(wire.fake.calls)
    opened = wire.run(lambda client: client.status(), admin_key="sesame")
    assert opened.statistics_note is None
    manifest_row = next(entry for entry in opened.statistics if entry.name == "manifest")
    assert (manifest_row.queue_ms, manifest_row.compute_ms) == (0.5, 2.0)
    assert len(wire.fake.calls) == 2 * seen  # a refused call is not repeated


def test_the_key_goes_to_restricted_calls_alone(wire: Wire) -> None:
    wire.fake.admin_key = "sesame"
    wire.run(lambda client: client.status(), admin_key="sesame")
    seen = wire.server.metadata if wire.url.startswith("grpc") else wire.server.headers_seen
    with_key = {kind for kind, headers in seen if "sesame" in headers.values()}
    assert with_key == {"StatisticsRequest"}


def test_a_model_that_is_not_ready(wire: Wire) -> None:
    wire.fake.not_ready.add("embed_text")
    status = wire.run(lambda client: client.status())
    assert not status.ready
    assert [name for name, ready in status.models.items() if not ready] == ["embed_text"]


def test_a_wrong_url_fails_at_once_and_names_it(free_port: int) -> None:
    for scheme in ("grpc", "http"):
        url = f"{scheme}://127.0.0.1:{free_port}"
        for is_async in (False, True):
            with pytest.raises(ConnectError, match=url) as caught:
                Wire(url, FakeServer(), None, is_async=is_async).run(lambda client: client.embed_texts("a"))
            assert caught.value.url == url
            assert not isinstance(caught.value, StatusError)


def test_a_full_queue_is_never_taken_for_a_missing_server(wire: Wire) -> None:
    for _ in range(20):  # each time on a new connection, where the channel's state is youngest
        wire.fake.failures.append(status_error("UNAVAILABLE", "Exceeds maximum queue size"))
        with pytest.raises(UnavailableError):
            send_once(wire)


def test_a_missing_server_is_never_taken_for_a_full_queue(free_port: int) -> None:
    for scheme in ("grpc", "http"):
        for is_async in (False, True):
            wire = Wire(f"{scheme}://127.0.0.1:{free_port}", FakeServer(), None, is_async=is_async)
            for _ in range(10):
                with pytest.raises(ConnectError):
                    send_once(wire)


def test_a_server_that_says_nothing_runs_into_the_deadline(wire: Wire) -> None:
    release, calls = threading.Event(), itertools.count()
    wire.fake.before = lambda call: release.wait(20) if next(calls) else None
    try:
        with pytest.raises(DeadlineExceededError) as caught:
            send_in_turn(wire, 30.0, 0.5)  # connected by the first: the short time is not that of the connection
        assert caught.value.status_code == "DEADLINE_EXCEEDED"
    finally:
        release.set()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_new_client_does_not_inherit_anothers_failures(is_async: bool, free_port: int, fake: FakeServer) -> None:
    wire = Wire(f"grpc://127.0.0.1:{free_port}", fake, None, is_async=is_async)
    with Client(wire.url) as failing:  # still open, and still pausing between its attempts to connect
        with pytest.raises(ConnectError):
            failing.embed_texts("a")
        with serve_grpc(fake, free_port):
            assert len(wire.run(lambda client: client.embed_texts("a"))) == 1


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_restart_is_waited_for(scheme: str, is_async: bool, free_port: int, fake: FakeServer) -> None:
    serve: Any = serve_grpc if scheme == "grpc" else serve_http
    first = serve(fake, free_port)
    second = serve(fake, free_port)
    url, _ = first.__enter__()
    refused = threading.Event()

    def restart() -> None:
        refused.wait(20)
        second.__enter__()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        if is_async:

            async def main() -> Any:
                async with AsyncClient(url, timeout=30) as client:
                    await client.embed_texts("before")
                    await asyncio.to_thread(first.__exit__, None, None, None)
                    asyncio.get_running_loop().call_later(0.2, refused.set)
                    return await client.embed_texts("after")

            result = asyncio.run(main())
        else:
            with Client(url, timeout=30) as client:
                client.embed_texts("before")
                first.__exit__(None, None, None)
                threading.Timer(0.2, refused.set).start()
                result = client.embed_texts("after")
        np.testing.assert_array_equal(result.features[0], features_of(b"after", 16))
    finally:
        refused.set()
        thread.join()
        second.__exit__(None, None, None)


def test_a_connection_that_breaks_off_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(1000)
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        port = listener.getsockname()[1]
        for scheme in ("http", "grpc"):
            wire = Wire(f"{scheme}://127.0.0.1:{port}", FakeServer(), None, is_async=False)
            with pytest.raises(ConnectError):
                send_once(wire)
        listener.shutdown(socket.SHUT_RDWR)


def test_messages_over_grpcs_usual_limit(wire: Wire) -> None:
    images = [bytes([number]) * 3_000_000 for number in range(1, 4)]
    features = wire.run(lambda client: client.embed_images(images)).features
    np.testing.assert_array_equal(features, np.stack([features_of(image, 16) for image in images]))


def test_malformed_answers_are_protocol_errors(wire: Wire) -> None:
    good = wire.fake.answer

    def spoil(call: Any, key: str | None = None) -> Any:
        reply = good(call, key)
        if isinstance(reply, InferResponse) and call.model == "embed_text":
            (tensor,) = reply.outputs
            return InferResponse((Tensor(tensor.name, "FP32", (1, 17), tensor.data),))
        return reply

    wire.fake.answer = spoil  # type: ignore[method-assign, assignment]
    with pytest.raises(ProtocolError, match="64 bytes for FP32 of shape"):
        wire.run(lambda client: client.embed_texts("a"))


@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_one_client_serves_many_threads(wire: Wire) -> None:
    wrong: list[str] = []
    with Client(wire.url, concurrency=2, batch_size=3) as client:

        def work(name: str) -> None:
            for turn in range(3):
                texts = [f"{name} {turn} {number}" for number in range(10)]
                expected = np.stack([features_of(text.encode(), 16) for text in texts])
                if not np.array_equal(client.embed_texts(texts).features, expected):
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(wire.fake.requests("embed_text")) == 12 * 3 * 4
    assert len(wire.fake.requests("manifest")) == 1
