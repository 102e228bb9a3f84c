"""Scripts end: when they meet no server, when they close nothing, and at once when they are interrupted."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.client.conftest import Wire
from tritonclip.protocol._channels import SILENCE
from tritonclip.protocol.messages import Call, InferRequest

TIMEOUT = 300  # of the clients: whoever waits for it is found out
SOON = 60  # seconds, far less than that on any machine

# How scripts treat a client, after which they come to their end.
ENDS = {
    "unclosed": "client = make(); use(client)",
    "dropped": "client = make(); use(client); del client",
    "closed": "client = make(); use(client); close(client); close(client)",
    "in a thread": """
client = make(); use(client)
threading.Thread(target=quietly, args=(client, "hold"), daemon=True).start()
time.sleep(0.3)
""",
}
PRELUDE = f"""
import asyncio, contextlib, sys, threading, time
from tritonclip import AsyncClient, Client, TritonClipError

url, is_async = sys.argv[1], sys.argv[2] == "async"

def make():
    return AsyncClient(url, timeout={TIMEOUT}) if is_async else Client(url, timeout={TIMEOUT})

def run(call):
    return asyncio.run(call) if is_async else call

def use(client, text="a"):
    try:
        run(client.embed_texts([text]))
    except TritonClipError as error:
        print(type(error).__name__)

def quietly(client, text):
    with contextlib.suppress(TritonClipError):
        run(client.embed_texts([text]))

def close(client):
    asyncio.run(client.aclose()) if is_async else client.close()

"""


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Scripts inherit it where an interruption is ignored, as by a test run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(code: str, url: str, *, is_async: bool) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", PRELUDE + code, url, "async" if is_async else "sync"]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def hold(wire: Wire) -> tuple[threading.Event, threading.Semaphore]:
    """Have the server sit on texts that begin with ``hold``; the semaphore counts them."""
    release, arrived = threading.Event(), threading.Semaphore(0)

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs and call.inputs[-1].items()[0][:4] == b"hold":
            arrived.release()
            release.wait(TIMEOUT)

    wire.fake.before = before
    return release, arrived


def test_a_script_ends(wire: Wire, free_port: int) -> None:
    release, _ = hold(wire)
    nobody = wire.url.rpartition(":")[0] + f":{free_port}"
    processes = {("nobody there", name): start(code, nobody, is_async=wire.is_async) for name, code in ENDS.items()}
    for name in ("unclosed", "in a thread"):
        processes["served", name] = start(ENDS[name], wire.url, is_async=wire.is_async)
    try:
        for (there, name), process in processes.items():
            out, err = process.communicate(timeout=SOON)
            assert (process.returncode, err) == (0, ""), (there, name)
            assert out.split() == ([] if there == "served" else ["ConnectError"]), (there, name)
    finally:
        release.set()
        for process in processes.values():
            process.kill()


@pytest.mark.parametrize(
    ("code", "requests"),
    [
        ("run(make().embed_texts(['hold']))", 1),
        ("run(make().embed_texts([f'hold {n}' * 10 for n in range(800)]))", 8),
        ("run(make().compare(b'an image', ['hold', 'b']))", 1),
    ],
    ids=["one", "many", "compare"],
)
def test_an_interruption_ends_a_script_at_once(wire: Wire, code: str, requests: int) -> None:
    release, arrived = hold(wire)
    process = start(code, wire.url, is_async=wire.is_async)
    try:
        for _ in range(requests):
            assert arrived.acquire(timeout=SOON)
        time.sleep(2 * SILENCE)  # then the connection is given up with the request
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SOON)
        assert time.monotonic() - started < SOON / 2
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
        assert err.splitlines()[-1] == "KeyboardInterrupt"
        assert "Exception ignored" not in err
        assert "exception calling callback" not in err
    finally:
        release.set()
        process.kill()


@pytest.mark.parametrize("texts", ["['hold']", "[f'hold {n}' * 10 for n in range(800)]"], ids=["one", "many"])
@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_an_interruption_that_comes_to_another_thread_is_noticed(wire: Wire, texts: str) -> None:
    """The system chooses the thread that a signal interrupts; Python acts on it in the main one, once that wakes."""
    release, arrived = hold(wire)
    code = f"""
import signal

def interrupt():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
make().embed_texts({texts})
"""
    process = start(code, wire.url, is_async=False)
    try:
        assert arrived.acquire(timeout=SOON)
        time.sleep(0.1)  # the main thread has nothing to do but to wait
        _, err = process.communicate("now\n", timeout=SOON)
        assert err.splitlines()[-1] == "KeyboardInterrupt"
    finally:
        release.set()
        process.kill()


@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_a_client_survives_an_interruption(wire: Wire) -> None:
    """In a notebook the client is used again; what was interrupted does not go on behind its back."""
    release, arrived = hold(wire)
    code = """
client = Client(url, timeout=100, concurrency=4)
try:
    client.embed_texts([f"hold {n}" * 10 for n in range(400)])
except KeyboardInterrupt:
    patience = time.monotonic() + 30
    while threading.active_count() > 3 and time.monotonic() < patience:
        time.sleep(0.01)
    print(threading.active_count() <= 3, client.embed_texts(["a"]).features.shape)
"""
    process = start(code, wire.url, is_async=False)
    try:
        for _ in range(4):
            assert arrived.acquire(timeout=SOON)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON)
        assert (out, err) == ("True (1, 16)\n", "")
    finally:
        release.set()
        process.kill()


def test_the_command_is_interrupted_at_once(wire: Wire, tmp_path: Any) -> None:
    release, arrived = hold(wire)
    texts = tmp_path / "texts.txt"
    texts.write_text("hold\n" * 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "tritonclip.cli", "embed", "--texts-from", str(texts), "--url", wire.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert arrived.acquire(timeout=SOON)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SOON) == ("", "")
        assert process.returncode == 130
    finally:
        release.set()
        process.kill()
