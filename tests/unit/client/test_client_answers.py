"""HTTP answers that are not what they should be: each is one error of ours, within the deadline."""

import asyncio
import gzip
import json
import socket
import threading
import time
from typing import Any

import pytest

from tests.unit.client.raw_servers import Handler, answering, dribbling, http_answer, raw_server, read_request
from tritonclip import (
    Client,
    ConnectError,
    DeadlineExceededError,
    InvalidArgumentError,
    ProtocolError,
    TritonClipError,
    UnavailableError,
    _defaults,
)
from tritonclip.protocol import http_transport
from tritonclip.protocol.connection import Connection, parse_url
from tritonclip.protocol.messages import InferRequest, Tensor
from tritonclip.protocol.transport import open_async_transport, open_transport

MANIFEST = InferRequest("manifest", (), ("manifest",))


def send(port: int, call: InferRequest = MANIFEST, timeout: float = 30.0, path: str = "") -> Any:
    transport = open_transport(Connection(parse_url(f"http://127.0.0.1:{port}{path}")))
    try:
        return transport.start(call, timeout).result()
    finally:
        transport.close()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"outputs": 3}',
        b'{"outputs": [{"name": "manifest"}]}',
        nested(100_000),
        b'{"outputs": ' + nested(100_000) + b"}",
        b'{"outputs": [{"name": "m", "datatype": "BYTES", "shape": [1e999], "parameters": {"binary_data_size": 0}}]}',
        b'{"outputs": [{"name": "m", "datatype": "BYTES", "shape": [NaN], "parameters": {"binary_data_size": 0}}]}',
        b'{"outputs": [{"name": "m", "datatype": "BYTES", "shape": [' + b"9" * 5000 + b'], "parameters": {}}]}',
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_not_tritons(body: bytes) -> None:
    with raw_server(answering(http_answer(body))) as port, pytest.raises(ProtocolError, match="manifest"):
        send(port)


@pytest.mark.parametrize("manifest", [nested(100_000), b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"\xff", b"NaN"])
def test_a_manifest_that_is_no_document(manifest: bytes) -> None:
    tensor = len(manifest).to_bytes(4, "little") + manifest
    output = {
        "name": "manifest",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(tensor)},
    }
    head = json.dumps({"outputs": [output]}).encode()
    answer = http_answer(head + tensor, Inference_Header_Content_Length=str(len(head)))
    with raw_server(answering(answer)) as port, Client(f"http://127.0.0.1:{port}") as client:  # noqa: SIM117
        with pytest.raises(ProtocolError, match="manifest"):
            client.embed_texts(["a"])


def test_errors_that_are_nested_or_endless() -> None:
    reason = json.dumps({"error": "x" * 1_000_000}).encode()
    for body in (nested(100_000), reason):
        with raw_server(answering(http_answer(body, 400))) as port:
            with pytest.raises(InvalidArgumentError) as caught:
                send(port)
            assert len(str(caught.value)) < 5000


def test_an_answer_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_defaults, "MAX_ANSWER_BYTES", 1 << 20)
    endless = dribbling(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 300_000, 0.0)
    bomb = answering(http_answer(gzip.compress(bytes(10 << 20)), content_encoding="gzip"))
    for handle in (endless, bomb):
        with raw_server(handle) as port, pytest.raises(ProtocolError, match="more than 1 MiB"):
            send(port)


def test_an_answer_that_cannot_be_decoded() -> None:
    handle = answering(http_answer(b"no gzip", content_encoding="gzip"))
    with raw_server(handle) as port, pytest.raises(ProtocolError, match="decoded"):
        send(port)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"{" * 100)[:-50],  # cut off in its body
        b"HTTP/1.1 200 OK\r\nContent-Le",  # in its head
        b"",  # before it
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_an_answer_that_is_cut_off(answer: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with raw_server(handle) as port, pytest.raises(ConnectError, match=f"127.0.0.1:{port}"):
        send(port)


def never_reading(connection: socket.socket) -> None:
    threading.Event().wait(20)


@pytest.mark.parametrize(
    "handle",
    [
        dribbling(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        dribbling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        never_reading,
    ],
    ids=["head", "body", "upload"],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_the_timeout_is_of_the_whole_request(handle: Handler, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then, each far within the timeout, does not stretch it; nor does an upload that stalls."""
    monkeypatch.setattr(http_transport, "CONNECT_SHARE", 100.0)  # the connection, slow as it may be, is not at fault
    image = bytes(8 << 20)  # more than socket buffers hold
    call = InferRequest("embed_image", (Tensor.from_items("image", [image]),), ("image_features",))

    async def send_async(port: int) -> Any:
        transport = open_async_transport(Connection(parse_url(f"http://127.0.0.1:{port}")))
        try:
            return await transport.send(call, 0.5)
        finally:
            await transport.aclose()

    with raw_server(handle) as port:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            asyncio.run(send_async(port)) if is_async else send(port, call, 0.5)
        assert time.monotonic() - started < 15


def test_a_proxys_page_is_quoted_not_parsed() -> None:
    handle = answering(http_answer(b"<html>Bad Gateway</html>", 502))
    with raw_server(handle) as port, pytest.raises(UnavailableError, match="HTTP 502 <html>Bad Gateway"):
        send(port)


def test_a_manifest_request_has_inputs_even_without_any_and_keeps_the_urls_path() -> None:
    requests: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(http_answer(b'{"error": "enough"}', 400))

    with raw_server(handle) as port, pytest.raises(TritonClipError):
        send(port, path="/prefix")
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert json.loads(body)["inputs"] == []
    assert head.startswith(b"POST /prefix/v2/models/manifest/infer HTTP/1.1\r\n")
