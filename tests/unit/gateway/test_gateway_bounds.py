"""A gateway as a process, and callers who mean it ill: memory, descriptors and the log stay bounded, others are served.

Memory is compared with what each attack cost before it was bounded: several hundred MiB.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.gateway_server import GatewayProcess
from tests.raw_http import GET_LIVE, answer, connect, exchange, post, received, statuses
from tests.samples import sample
from tests.waiting import wait_for
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.cli import main
from tritonclip_server.gateway.http.server import LAST_SECONDS
from tritonclip_server.gateway.logs import PER_MINUTE

MIB = 2**20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, list[str]]]:
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")
    secrets = [file.create(name)[1] for name in ("alice", "bob")]
    process = GatewayProcess("--keys", str(file.path), "--max-waiting-seconds", "3", fake=0.0)
    yield process, secrets
    process.stop()
    assert process.process.returncode == 0


class Memory:
    """How much more a process has resident than when this was made, at most."""

    def __init__(self, process: GatewayProcess) -> None:
        self._process = psutil.Process(process.process.pid)
        self._before = self._process.memory_info().rss

    @property
    def more_mib(self) -> float:
        return int(self._process.memory_info().rss - self._before) / MIB


def ask(url: str, secret: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, headers=headers, timeout=30)


def test_a_flood_of_headers(running: tuple[GatewayProcess, list[str]]) -> None:
    """A hundred MiB of them, and as many connections as do it at once."""
    process, (alice, _) = running
    memory = Memory(process)
    for _ in range(4):
        with connect(process.url) as connection, suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            for number in range(400):
                connection.sendall(b"x-%d: " % number + b"a" * 65_000 + b"\r\n")
    assert memory.more_mib < 40
    assert ask(process.url, alice).status_code == 200


def test_a_flood_of_requests_on_one_connection(running: tuple[GatewayProcess, list[str]]) -> None:
    process, (alice, _) = running
    memory = Memory(process)
    with connect(process.url) as connection:
        reader = threading.Thread(target=lambda: statuses(received(connection)))
        reader.start()
        with suppress(ConnectionError):
            connection.sendall(GET_LIVE * (13 * MIB // len(GET_LIVE)))
        reader.join(30)
    assert memory.more_mib < 40
    assert ask(process.url, alice).status_code == 200


def test_many_slow_uploads_with_one_key(running: tuple[GatewayProcess, list[str]]) -> None:
    """60 bodies of 19 MiB, all but their ends: those beyond the key's share wait unread, and are then refused."""
    process, (alice, bob) = running
    memory = Memory(process)
    size = 19 * MIB
    head = post("/v1/embeddings", b"", f"Authorization: Bearer {alice}", announced=size)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(process.url)) for _ in range(60)]
        for connection in connections[:6]:  # 128 MiB may be in flight; 60 bodies are 1,140
            connection.sendall(head + bytes(size - 1000))
        for connection in connections[6:]:
            connection.setblocking(False)
            connection.send(head + bytes(4 * MIB))  # as much of it as is taken
        waiting = 'tritonclip_gateway_requests_waiting{room="bytes"}'
        waited = 'tritonclip_gateway_no_room_total{reason="waited_too_long",room="bytes"}'

        def found_no_room() -> float:  # where a machine stands still, the first are refused before the last have come
            metrics = httpx.get(f"{process.url}/metrics", timeout=30).text
            return (sample(metrics, waiting) or 0) + (sample(metrics, waited) or 0)

        wait_for(lambda: found_no_room() == 54)
        assert memory.more_mib < 400
        assert ask(process.url, bob).status_code == 200
        for connection in connections[6:]:
            connection.settimeout(30)
            assert statuses(connection.recv(65536)) == [429]
        assert memory.more_mib < 400
        assert sample(httpx.get(f"{process.url}/metrics", timeout=30).text, waiting) == 0


def test_a_flood_of_refusals_does_not_fill_a_disk(running: tuple[GatewayProcess, list[str]]) -> None:
    process, _ = running
    before = len(process.said)
    with httpx.Client(base_url=process.url, timeout=30) as http:
        for _ in range(500):
            assert http.get("/v1/models").status_code == 401
        http.post("/v1/models", headers={"x-request-id": "the-last"})  # a line of another kind, after all of those
    wait_for(lambda: "request=the-last " in process.said)
    said = process.said[before:]
    assert PER_MINUTE / 2 <= len(re.findall("code=invalid_api_key", said)) <= 2 * PER_MINUTE


def test_the_log_has_what_failed_and_nothing_of_what_was_sent(tmp_path: Path) -> None:
    """The whole of it, from a process that is told secrets in every place, until it ends."""
    file = KeyFile(tmp_path / "keys.json")
    key, secret = file.create("alice")
    process = GatewayProcess("--keys", str(file.path), "--max-waiting-seconds", "3", fake=0.0)
    private = "SECRET-WORDS"
    bearer = {"authorization": f"Bearer {secret}", "x-request-id": "known-id"}
    try:
        for path, document in (
            ("/v1/embeddings", {"input": f"fail {private}"}),
            (f"/v1/{private}", {}),
            ("/v1/embeddings", {"input": [private, [private]]}),
            ("/v1/embeddings", {"input": "a", private: 1}),
            ("/v1/embeddings", {"input": [{"image": 7}, private]}),
        ):
            assert httpx.post(process.url + path, json=document, headers=bearer, timeout=30).status_code >= 400
        headers = {"authorization": f"Bearer {private}", "x-a": private}
        httpx.get(f"{process.url}/v1/models?{private}", headers=headers, timeout=30)
        exchange(process.url, f"{private}\r\nHost: {private}\r\n\r\n".encode())
        with suppress(ConnectionError):  # it is not waited for long until all of this is sent
            exchange(process.url, b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\nX: " + private.encode() * 10_000 + b"\r\n\r\n")
    finally:
        process.stop()
    said = process.said
    assert private not in said
    assert secret.split("-", 2)[2] not in said
    assert "\x1b" not in said
    assert said.count(f"ERROR gateway.request: request=known-id key={key.id} POST /v1/embeddings status=500") == 1
    assert said.count("builtins.ZeroDivisionError") == 1
    assert said.count("request=known-id") == 5
    for code in ("internal_error", "not_found", "unknown_field", "invalid_api_key", "invalid_http"):
        assert said.count(f"code={code} ") >= 1, code


@pytest.fixture
def few_descriptors() -> Iterator[GatewayProcess]:
    process = GatewayProcess(fake=0.0, descriptors=256)
    yield process
    process.stop()


def test_half_requests_lock_nobody_out(few_descriptors: GatewayProcess) -> None:
    """More of them than the process may have files open."""
    url = few_descriptors.url
    with ExitStack() as stack:
        for number in range(400):
            connection = stack.enter_context(connect(url))
            with suppress(ConnectionError):
                connection.sendall(GET_LIVE[: 10 + number % 20])
            if number % 50 == 0:
                assert httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, timeout=30).status_code == 200
        for _ in range(20):
            assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200
    assert "Traceback" not in few_descriptors.said


def test_a_storm_of_connections_is_survived(few_descriptors: GatewayProcess) -> None:
    """All at once, before the gateway can take any: it runs out of descriptors, and goes on."""
    address = ("127.0.0.1", int(few_descriptors.url.rpartition(":")[2]))
    stormed = psutil.Process(few_descriptors.process.pid)
    stormed.suspend()
    storm = [socket.create_connection(address, timeout=30) for _ in range(600)]
    stormed.resume()
    for _ in range(10):
        answer = httpx.post(f"{few_descriptors.url}/v1/embeddings", json={"input": "a"}, timeout=30)
        assert answer.status_code == 200
    for connection in storm:
        connection.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "cannot listen on 127.0.0.1:99999"),
        (["--port", "-1"], "cannot listen on 127.0.0.1:-1"),
        (["--host", "no.such.host.invalid", "--port", "0"], "cannot listen on no.such.host.invalid:0"),
        (["--max-seconds", "inf"], "is not more than 0, or too much"),
        (["--max-seconds", "nan"], "is not more than 0, or too much"),
        (["--max-connections", "0"], "is not more than 0"),
        (["--max-bytes-in-flight", "many"], "'many' is no number"),
        (["--keys", "/"], "error: "),
    ],
)
def test_wrong_options_are_a_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_sigterm_under_load(tmp_path: Path) -> None:
    """Each request that had begun is answered, each that comes later is told 503; nobody is cut off. Then it ends."""
    ended = tmp_path / "ended"
    process = GatewayProcess(fake=ended)
    url = process.url
    answers: list[int | str] = []
    slow: list[int] = []
    stop = threading.Event()
    body = json.dumps({"input": {"image": "data:image/png;base64,iVBORw0KGgo="}}).encode()

    def keep_asking() -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while not stop.is_set():
                begun = time.monotonic()
                try:
                    answer = http.get("/v1/models")
                except httpx.TransportError as error:
                    # Who connects, and stands still for longer than is waited at the end, cannot be served.
                    late = time.monotonic() - begun > LAST_SECONDS
                    unserved = "late" if late else "cut off"
                    answers.append("not listening" if isinstance(error, httpx.ConnectError) else unserved)
                    return
                answers.append(answer.status_code)
                if answer.status_code == 503:
                    assert answer.json()["error"]["code"] == "shutting_down"
                    assert 1 <= int(answer.headers["retry-after"]) <= 4
                    assert answer.headers["connection"] == "close"

    def ask_slowly() -> None:
        with connect(url) as connection:
            connection.sendall(post("/v1/embeddings", body))
            slow.extend(statuses(received(connection)))

    idle = connect(url)
    idle.sendall(GET_LIVE)
    assert statuses(answer(idle)) == [200]
    threads = [threading.Thread(target=keep_asking, daemon=True) for _ in range(4)]
    threads += [threading.Thread(target=ask_slowly, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    in_flight = "tritonclip_gateway_items_in_flight"
    wait_for(lambda: sample(httpx.get(f"{url}/metrics", timeout=30).text, in_flight) == 4)
    process.process.terminate()
    wait_for(lambda: answers.count(503) >= 4)  # until what is under way has ended, whoever comes is told
    assert httpx.get(f"{url}/health/ready", timeout=30).status_code == 503
    assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200
    idle.sendall(GET_LIVE.replace(b"/health/live", b"/health/ready"))
    assert statuses(received(idle)) == [503]
    ended.touch()
    process.process.wait(60)
    stop.set()
    for thread in threads:
        thread.join(30)
    process.stop()
    assert slow == [200] * 4
    assert set(answers) <= {200, 503, "not listening", "late", "cut off"}
    assert answers.count("cut off") <= 1  # who connects in the very moment that the listener is closed
    assert process.process.returncode == 0
    assert "Traceback" not in process.said
