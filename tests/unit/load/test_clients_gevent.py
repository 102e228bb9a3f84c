"""The clients over gevent, each in a process that it may patch, against servers that do what is asked of them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

ROOT = Path(__file__).resolve().parents[3]
HELD = 40  # more than gevent's pool has threads by itself

MANY_AT_ONCE = f"""
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from load.core.operations import EmbedTexts
from load.core.clients_gevent import open_client, patch

patch()
client = open_client("grpc", sys.argv[1], None)

def send(text):
    return client.send(client.prepare(EmbedTexts([text])), 20.0)

held = [gevent.spawn(send, "hold") for _ in range({HELD})]
quick = gevent.spawn(send, "answer")
quick.join()
print(quick.value.tolist(), sum(each.ready() for each in held))
send("release")
gevent.joinall(held)
print([each.value.tolist() for each in held] == [[[1.0, 0.0]]] * {HELD})
"""


class Holding(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Keeps calls with the text `hold` until one with `release` comes; answers others at once."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        text = request.raw_input_contents[0][4:]
        if text == b"hold":
            self.released.wait(30)
        elif text == b"release":
            self.released.set()
        answer = pb.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="text_features", datatype="FP32", shape=[1, 2])
        answer.raw_output_contents.append(b"\0\0\x80\x3f\0\0\0\0")
        return answer


@pytest.fixture
def holding() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(HELD + 2))
    add_GRPCInferenceServiceServicer_to_server(Holding(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0)


def run(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_call_over_grpc_gets_its_answer_while_many_others_wait(holding: str) -> None:
    assert run(MANY_AT_ONCE, holding) == ["[[1.0, 0.0]] 0", "True"]


OVER_HTTP = """
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.server import StreamServer
from load.core.operations import EmbedTexts
from load.core.clients_gevent import open_client, patch
from load.core.protocols import RequestProblem

def answering(answer):
    def handle(connection, address):
        said = connection.recv(65536)
        if said.startswith(b"POST /v2"):
            print(said.partition(b" HTTP")[0].decode())
        if answer is None:
            gevent.sleep(60)
        connection.sendall(answer)
    server = StreamServer(("127.0.0.1", 0), handle)
    server.start()
    return f"http://127.0.0.1:{server.server_port}"

def status(line, body=b""):
    return f"HTTP/1.1 {line}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode() + body

VECTOR = b'{"data": [{"index": 0, "embedding": "AACAPwAAAAA="}]}'
ANSWERS = [
    status("200 OK", VECTOR), status("429 Too Many Requests"), status("503 Service Unavailable"),
    status("500 Internal Server Error"), status("200 OK", b"<html>"), status("200 OK", b"{}"), b"",
    b"HTTP/9 what", None,
]
urls = [answering(answer) for answer in ANSWERS] + ["http://127.0.0.1:9"]
for url, answer in zip(urls, [*ANSWERS, b"nobody listens"], strict=True):
    client = open_client("gateway", url, "tclip-key")
    try:
        print(client.send(client.prepare(EmbedTexts(["a text"])), 2.0 if answer is None else 30.0).tolist())
    except RequestProblem as problem:
        print(type(problem).__name__, problem.outcome)
client = open_client("http", urls[2] + "?model=vit")
try:
    client.send(client.prepare(EmbedTexts(["a text"])), 30.0)
except RequestProblem:
    pass
print(open_client("grpc", "grpc://host?model=vit").prepare(EmbedTexts(["a text"])).message.model_name)
"""


def test_whatever_comes_over_http_has_a_name() -> None:
    assert run(OVER_HTTP) == [
        "[[1.0, 0.0]]",
        "Refused refused",
        "Refused refused",
        "Failed failed",
        "Malformed wrong",
        "Malformed wrong",
        "Disconnected failed",
        "Malformed wrong",
        "Unanswered hung",
        "Disconnected failed",
        "POST /v2/models/vit.embed_text/infer",
        "vit.embed_text",
    ]
