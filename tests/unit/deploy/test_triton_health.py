"""The container's health check, on stand-ins for Triton that are real processes with real children and a real port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.modules import load_module
from tests.unit.client.raw_servers import raw_server
from tests.waiting import wait_for

HEALTH = Path(__file__).resolve().parents[3] / "deploy/docker/triton_health.py"
# A process named tritonserver with as many model processes as it is told, one more at each SIGUSR1; at SIGUSR2 the
# model of the first one is loaded again. It is ready while the file READY exists, and as Triton of 26.04 and later only
# while all of them live. It has the models of all processes but those that the file UNLOADED names. It prints its port.
STAND_IN = """
import ctypes, http.server, os, signal, subprocess, sys, threading
stub, count, ready, unloaded, release = sys.argv[1:]
ctypes.CDLL(None).prctl(15, b"tritonserver")
start = lambda name: subprocess.Popen([stub, "/models/1/model.py", name, "/backends"])
stubs = [start(f"model{number}_0_0") for number in range(int(count))]

def load_again(*_):
    stubs.append(start("model0_0_0"))
    stubs[0].kill()
    stubs[0].wait()

signal.signal(signal.SIGUSR1, lambda *_: stubs.append(start(f"model{len(stubs)}_0_0")))
signal.signal(signal.SIGUSR2, load_again)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/v2/models/"):
            gone = open(unloaded).read().split() if os.path.exists(unloaded) else []
            self.send_response(400 if self.path.split("/")[-1] in gone else 200)
        else:
            whole = release < "26.04" or all(stub.poll() is None for stub in stubs)
            self.send_response(200 if os.path.exists(ready) and whole else 400)
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
NAMED = "import ctypes, time; ctypes.CDLL(None).prctl(15, {!r}); print(flush=True); time.sleep(600)"
BEFORE, SINCE = "26.03", "26.04"


class Container:
    """A stand-in for Triton, below an init process or not, and the health check for it."""

    def __init__(self, folder: Path, health: Any, release: str = BEFORE, count: int = 3, init: bool = False) -> None:
        self.health, self.seen, self.ready = health, folder / "seen", folder / "ready"
        self.unloaded = folder / "unloaded"
        self.stub = folder / "triton_python_backend_stub"
        if not self.stub.exists():
            self.stub.write_text("#!/bin/sh\nsleep 600 & wait\n")
            self.stub.chmod(0o755)
        arguments = [str(self.stub), str(count), str(self.ready), str(self.unloaded), release]
        command = [sys.executable, "-c", STAND_IN, *arguments]
        if init:
            command = ["sh", "-c", '"$@" & wait; wait', "sh", *command]
        self.process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        with self.process.stdout as said:
            self.port = int(said.readline())
        wait_for(lambda: len(self.stubs()) == count)

    def server(self) -> psutil.Process:
        first = psutil.Process(self.process.pid)
        return next(each for each in [first, *first.children(recursive=True)] if each.name() == "tritonserver")

    def stubs(self) -> list[psutil.Process]:
        try:
            # The kernel changes a process's name a moment before its arguments can be read.
            children = self.server().children()
            return [each for each in children if each.name().startswith("triton_python") and self.has_begun(each)]
        except (StopIteration, psutil.NoSuchProcess):
            return []

    @staticmethod
    def has_begun(stub: psutil.Process) -> bool:
        return stub.status() == psutil.STATUS_ZOMBIE or bool(stub.cmdline())

    def check(self) -> int:
        """Run the check as the container would, whose first process is this one's; but here a late answer is one."""
        self.health.SECONDS = 60.0
        self.health.READY = f"http://127.0.0.1:{self.port}/v2/health/ready"
        self.health.MODEL = f"http://127.0.0.1:{self.port}/v2/models/{{}}"
        self.health.SEEN, self.health.FIRST_PROCESS = self.seen, self.process.pid
        return int(self.health.main())

    def kill_stub(self) -> None:
        victim = self.stubs()[0]
        victim.kill()
        wait_for(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)

    def was_ended(self) -> bool:
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def health() -> Any:
    return load_module(HEALTH)


Start = Callable[..., Container]


@pytest.fixture
def start(tmp_path: Path, health: Any) -> Iterator[Start]:
    running: list[Container] = []

    def start_one(**options: object) -> Container:
        running.append(Container(tmp_path, health, **options))  # type: ignore[arg-type]
        return running[-1]

    yield start_one
    for container in running:
        container.close()


@pytest.mark.parametrize("init", [False, True], ids=["first process", "below an init process"])
@pytest.mark.parametrize("release", [BEFORE, SINCE])
def test_a_server_that_lost_a_process_is_ended(start: Start, release: str, init: bool) -> None:
    container = start(release=release, init=init)
    container.ready.touch()
    assert [container.check() for _ in range(3)] == [0, 0, 0]
    container.kill_stub()
    assert container.check() == 1
    assert container.was_ended()


@pytest.mark.parametrize("release", [BEFORE, SINCE])
def test_a_server_that_is_loading_is_left_alone(start: Start, release: str) -> None:
    """Its processes come, and go too, before it is ready for the first time."""
    container = start(release=release, count=1)
    for signals in (1, 2):
        assert container.check() == 1
        container.server().send_signal(signal.SIGUSR1)
        # Two signals of a kind that come before the first is heeded are one.
        wait_for(lambda signals=signals: len(container.stubs()) == 1 + signals)  # type: ignore[misc]
    assert container.check() == 1
    assert not container.seen.exists()
    container.ready.touch()
    assert container.check() == 0
    container.ready.unlink()  # busy, or whatever else: all its processes live
    assert [container.check() for _ in range(3)] == [1, 1, 1]
    container.ready.touch()
    assert container.check() == 0


def test_processes_that_came_later_count_from_then_on(start: Start) -> None:
    container = start(count=2)
    container.ready.touch()
    assert container.check() == 0
    container.server().send_signal(signal.SIGUSR1)
    wait_for(lambda: len(container.stubs()) == 3)
    assert [container.check() for _ in range(3)] == [0, 0, 0]
    container.kill_stub()
    assert container.check() == 1
    assert container.was_ended()


def test_a_model_that_is_loaded_again_or_unloaded_is_no_loss(start: Start) -> None:
    container = start()
    container.ready.touch()
    assert container.check() == 0
    before = container.stubs()[0]
    container.server().send_signal(signal.SIGUSR2)
    wait_for(lambda: not before.is_running() and len(container.stubs()) == 3)
    assert [container.check() for _ in range(2)] == [0, 0]
    container.unloaded.write_text("model1")
    victim, next_victim = (
        next(each for each in container.stubs() if name in each.cmdline()) for name in ("model1_0_0", "model2_0_0")
    )
    victim.kill()
    wait_for(lambda: victim.status() == psutil.STATUS_ZOMBIE)
    assert [container.check() for _ in range(2)] == [0, 0]
    container.unloaded.unlink()
    assert container.check() == 0
    next_victim.kill()
    wait_for(lambda: next_victim.status() == psutil.STATUS_ZOMBIE)
    assert container.check() == 1
    assert container.was_ended()


def test_what_was_seen_of_an_earlier_server_says_nothing_of_the_next(start: Start) -> None:
    earlier = start(count=4)
    earlier.ready.touch()
    assert earlier.check() == 0
    earlier.close()
    later = start(count=2)
    assert later.check() == 0
    assert later.check() == 0


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"3", b"not a number", b"1\n2", b"1 2\na_0_0", b"\xff\xfe\x00", b"9" * 5000]
)
def test_a_spoilt_memory_is_made_anew(start: Start, content: bytes) -> None:
    container = start()
    container.ready.touch()
    container.seen.write_bytes(content)
    assert container.check() == 0
    container.kill_stub()
    assert container.check() == 1
    assert container.was_ended()


def test_without_a_memory_a_ready_server_is_healthy(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    container = start()
    container.ready.touch()
    container.seen.mkdir()  # as little to be written as on a read-only file system, for root too
    assert [container.check() for _ in range(2)] == [0, 0]
    assert "cannot remember" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", [b"a b", b"a) Z 1 (b", b") R 1", b"((", b"a\nb\n", b"\xff\xfe", b"", b"triton_python_x"]
)
def test_odd_names_of_processes_are_no_trouble(start: Start, name: bytes, health: Any) -> None:
    container = start()
    container.ready.touch()
    with subprocess.Popen([sys.executable, "-c", NAMED.format(name)], stdout=subprocess.PIPE) as odd:
        assert odd.stdout is not None
        odd.stdout.readline()
        read = health.read_process(Path("/proc"), odd.pid)
        assert (read.pid, read.parent, read.name) == (odd.pid, os.getpid(), name[:15])
        assert container.check() == 0
        odd.kill()


def test_entries_that_vanish_or_cannot_be_read_are_passed_over(
    tmp_path: Path, health: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    stat = "{} ({}) S {} " + "0 " * 17 + "{} 0\n"
    for pid, name, parent in (
        (1, "tini", 0),
        (7, "tritonserver", 1),
        (8, "triton_python_b", 7),
        (9, "triton_python_b", 1),
    ):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "stat").write_text(stat.format(pid, name, parent, 100 + pid))
    (proc / "8" / "cmdline").write_bytes(b"/backends/stub\0/models/a_0_0/model.py\0similarity_0_0\0/backends/1_2_3\0")
    (proc / "10").mkdir()  # gone between the list and the look
    (proc / "11").touch()
    for pid, text in ((12, ""), (13, "13 (cut"), (14, "14 (cut) S x"), (15, "15 (dead) Z 7 " + "0 " * 30)):
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "stat").write_text(text)
    really = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.parent.name == "9":
            raise ProcessLookupError(3, "No such process")  # gone between opening and reading
        return really(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    processes = list(health.living(proc))
    assert {process.pid for process in processes} == {1, 7, 8}
    server = health.find_server(processes, 1)
    assert (server.pid, server.started) == (7, 107)
    assert health.instances(processes, server, proc) == {"similarity_0_0"}
    assert health.instances(processes, server, proc / "nowhere") == set()
    assert list(health.living(proc / "nowhere")) == []
    assert health.find_server([health.Process(1, 0, 2, b"a"), health.Process(2, 0, 1, b"b")], 1) is None


def test_a_server_that_ended_by_itself_meanwhile_is_not_confused_with_another(
    health: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        wait_for(lambda: psutil.Process(other.pid).name() == "sleep")  # until then it has our own name
        process = health.read_process(Path("/proc"), other.pid)
        health.end(process._replace(started=process.started - 1), Path("/proc"))  # its id belongs to this one now
        assert other.poll() is None
        health.end(process, Path("/proc"))
        assert other.wait(30) == -signal.SIGTERM
    health.end(process, Path("/proc"))
    assert "cannot end" in capsys.readouterr().out


def test_a_proxy_is_not_asked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    container = start()
    container.ready.touch()
    assert container.check() == 0


def test_where_no_processes_can_be_seen_readiness_decides(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    container = start()
    monkeypatch.setattr(container.health, "PROC", Path("/proc/nowhere"))
    assert container.check() == 1
    container.ready.touch()
    assert container.check() == 0


def test_it_needs_nothing_but_python() -> None:
    """As in the container: no environment, no packages. Not run whole: it would look at this machine's processes."""
    code = f"import runpy; check = runpy.run_path({str(HEALTH)!r}); print(check['is_ready']('http://127.0.0.1:9'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 000 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200,
        b"\xff" * 9000,
        b"",
    ],
)
def test_what_is_no_http_is_not_ready(said: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)

    with raw_server(answer) as port:
        assert load_module(HEALTH).is_ready(f"http://127.0.0.1:{port}/v2/health/ready") is False
