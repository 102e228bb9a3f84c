"""The launcher: what it refuses and says, what it closes, and that it serves where much is missing."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from tests.launching import ROOT, Launcher
from tests.serving import FREE_PORTS, start, take_as_published
from tritonclip import Client, PermissionDeniedError, UnavailableError
from tritonclip.protocol import (
    Call,
    LoadModelRequest,
    ModelReadyRequest,
    UnloadModelRequest,
    open_transport,
    resolve_connection,
)
from tritonclip_server.embedded.environment import check_numpy, find_installation, find_libpython
from tritonclip_server.embedded.errors import EnvironmentProblem, LogProblem, PortInUse, RepositoryProblem, ServerDied
from tritonclip_server.embedded.ports import are_listened_on, find_ports
from tritonclip_server.embedded.server import LOOPBACK, PING_INTERVAL_MS, Ports, Server
from tritonclip_server.embedded.stubs import instances


def test_a_port_in_use_is_named(tiny_repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port}.*--http-port"):
            Server(tiny_repository, Ports(0, port, 0)).start()


@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.long) for n in ("http", "grpc")), "metrics"])
def test_a_port_that_somebody_takes_before_triton_does_is_exchanged(
    name: str, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton listens seconds after a free one was found. For metrics it does so last, when it answers already."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = iter([replace(find_ports(LOOPBACK, FREE_PORTS), **{name: port})])
        monkeypatch.setattr(
            "tritonclip_server.embedded.server.find_ports",
            lambda address, ports: next(found, None) or find_ports(address, ports),
        )
        with Server(tiny_repository, FREE_PORTS, log=tmp_path / "log") as server:
            assert getattr(server.ports, name) != port
            assert are_listened_on(server.ports, server.pid)
            assert server.fault() is None
    assert f"Socket '{LOOPBACK}:{port}' already in use" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("worked", "seconds", "headline"),
    [(0.3, 5, "Triton ended with code -"), pytest.param(0.0, 300, "Triton was not ready", marks=pytest.mark.long)],
    ids=["aborts", "hangs"],
)
def test_a_start_is_tried_again_where_a_process_of_it_stood_still(
    worked: float, seconds: int, headline: str, tiny_repository: Path, tmp_path: Path
) -> None:
    """As on a machine that is suspended: Triton gives a process up that is silent for a second while it loads."""
    said: list[str] = []
    ended = threading.Event()

    def hold_one_up(server: Server) -> None:
        while not ended.is_set():
            with suppress(RuntimeError):  # Triton has not begun
                for process, name in instances(server.pid).items():
                    if name.startswith("similarity") and sum(process.cpu_times()[:2]) >= worked:
                        process.suspend()
                        ended.wait(seconds)
                        with suppress(psutil.NoSuchProcess):
                            process.resume()
                        return
            time.sleep(0.01)

    server = Server(tiny_repository, FREE_PORTS, log=tmp_path / "log", say=said.append)
    holding = threading.Thread(target=hold_one_up, args=(server,))
    holding.start()
    try:
        with server, Client(server.grpc_url) as client:
            assert server.fault() is None
            assert client.embed_texts("a cat").features.shape == (1, 64)
    finally:
        ended.set()
        holding.join()
    assert [line.startswith(headline) and line.endswith("; starting it again") for line in said] == [True]


def test_a_ready_server_of_somebody_else_is_not_taken_for_ours(server: Server, tiny_repository: Path) -> None:
    ours = Server(tiny_repository, server.ports)
    with httpx.Client(base_url=server.http_url, timeout=60) as http:
        assert server.answers(http)
        assert not ours.answers(http)
    with pytest.raises(PortInUse):
        ours.start()


def test_missing_repositories_manifests_and_artifacts_are_told_apart(tiny_repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryProblem, match=r"no such folder.*tritonclip-server export"):
        Server(tmp_path / "nowhere").start()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryProblem, match=r"no readable manifest\.json"):
        Server(tmp_path / "empty").start()
    shutil.copytree(tiny_repository, tmp_path / "partial")
    (tmp_path / "partial" / "text_encoder" / "1" / "model.pt").unlink()
    with pytest.raises(RepositoryProblem, match=r"text_encoder/1/model\.pt missing"):
        Server(tmp_path / "partial").start()


def test_an_artifact_that_does_not_load_fails_with_tritons_own_words(tiny_repository: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_repository, tmp_path / "broken")
    (tmp_path / "broken" / "image_encoder" / "1" / "model.pt").write_bytes(b"no TorchScript")
    take_as_published(tmp_path / "broken")
    server = Server(tmp_path / "broken", FREE_PORTS, log=tmp_path / "log")
    with pytest.raises(ServerDied, match="image_encoder") as caught:
        server.start()
    assert str(tmp_path / "log") in str(caught.value)
    assert list(Path("/dev/shm").glob(f"{server.identity}*")) == []
    # What is said of its next life is of that alone.
    shutil.copy(tiny_repository / "image_encoder" / "1" / "model.pt", tmp_path / "broken" / "image_encoder" / "1")
    (tmp_path / "broken" / "text_encoder" / "1" / "model.pt").write_bytes(b"no TorchScript")
    take_as_published(tmp_path / "broken")
    with pytest.raises(ServerDied, match="text_encoder") as caught:
        server.start()
    assert "image_encoder" not in str(caught.value)


def test_numpy_2_is_refused_before_it_corrupts_anything() -> None:
    check_numpy("1.26.4")
    with pytest.raises(EnvironmentProblem, match="numpy<2"):
        check_numpy("2.1.0")


def test_a_missing_libpython_is_named_with_its_package() -> None:
    assert find_libpython("libpython3.11.so.1.0").is_file()
    with pytest.raises(EnvironmentProblem, match=r"libpython9\.9\.so\.1\.0 is missing.*apt-get install libpython9\.9"):
        find_libpython("libpython9.9.so.1.0")


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="nvidia-pytriton"):
        find_installation()


def test_the_command_prints_one_line_and_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tritonclip_server", "serve", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr


OPERATOR_CALLS = (
    ("GET", "/v2/models/embed_image/config"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/embed_image/load"),
    ("POST", "/v2/repository/models/no-such-model/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
)


@pytest.mark.parametrize(("method", "path"), OPERATOR_CALLS)
def test_operator_apis_are_closed(server: Server, method: str, path: str) -> None:
    assert httpx.request(method, server.http_url + path, timeout=60).status_code == 403


@pytest.mark.parametrize("call", [LoadModelRequest("embed_image"), UnloadModelRequest("embed_image")])
@pytest.mark.parametrize("key", [None, "guessed"])
def test_models_are_loaded_and_unloaded_by_nobody_without_the_key(server: Server, call: Call, key: str | None) -> None:
    for url in (server.grpc_url, server.http_url):
        with closing(open_transport(resolve_connection(url, admin_key=key))) as transport:
            with pytest.raises((PermissionDeniedError, UnavailableError), match="restricted"):
                transport.start(call, 10).result()
            assert transport.start(ModelReadyRequest("embed_image"), 10).result() is True


def test_an_admin_key_opens_them_and_closes_statistics(tiny_repository: Path, tmp_path: Path) -> None:
    running = start(tiny_repository, tmp_path / "log", admin_key="s3cret")
    try:
        triton = psutil.Process(running.pid)
        assert not any("s3cret" in " ".join(each.cmdline()) for each in [triton, *triton.children(recursive=True)])
        assert "s3cret" not in (tmp_path / "log").read_text()
        for method, path in OPERATOR_CALLS:
            key = {"admin-key": "s3cret"}
            assert httpx.request(method, running.http_url + path, timeout=60).status_code == 403
            if "cuda" not in path:  # closed for want of a GPU, not of a key
                assert httpx.request(method, running.http_url + path, headers=key, timeout=60).status_code == 200
        for url in (running.grpc_url, running.http_url):
            with Client(url) as client:
                status = client.status()
                assert status.statistics is None
                assert status.manifest is not None
            with Client(url, admin_key="s3cret") as client:
                assert client.status().statistics
            with Client(url, admin_key="wrong") as client:
                assert client.status().statistics is None
    finally:
        running.stop()


def test_without_a_key_nobody_can_read_one_either(server: Server) -> None:
    """The key is then random, and would open all to whoever reads the arguments of this machine's processes."""
    arguments = psutil.Process(server.pid).cmdline()
    assert not any("restricted" in argument or "admin-key" in argument for argument in arguments)
    assert arguments[-2:] == ["TRITONCLIP_HIDDEN_0", "TRITONCLIP_HIDDEN_1"]


def test_clients_may_ask_whether_a_silent_connection_lives(server: Server) -> None:
    """Triton by itself ends a connection on which more than two pings came within hours, with no call under way."""
    ping, settings, goaway = 6, 4, 7
    kinds: list[int] = []
    with socket.create_connection((LOOPBACK, server.ports.grpc)) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, b""))
        for number in range(4):
            connection.sendall(frame(ping, bytes([number] * 8)))
            while kinds.count(ping) <= number and goaway not in kinds:
                kinds.append(kind_of_next(connection))
            # After the answer: of a Triton that stood still two would be taken in at once.
            time.sleep(1.1 * PING_INTERVAL_MS / 1000)
        with pytest.raises(BlockingIOError):  # still open
            connection.recv(1, socket.MSG_DONTWAIT)
    assert kinds.count(ping) == 4
    assert goaway not in kinds


def kind_of_next(connection: socket.socket) -> int:
    """Of the next frame that comes."""
    head = connection.recv(9, socket.MSG_WAITALL)
    assert len(head) == 9, "the connection was ended"
    connection.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
    return head[3]


def frame(kind: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 on the connection itself (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


def test_it_serves_where_much_is_missing(tiny_repository: Path, tmp_path: Path) -> None:
    """A proxy that answers nobody, a full disk under the log, no home, no locale, hardly a PATH, another TMPDIR."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(tmp_path), "HOME": "/nonexistent"}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"), "http://127.0.0.1:9")
    arguments = ("--gateway-port", "0", "--greet", "--log", "/dev/full")
    with Launcher(tiny_repository, tmp_path, *arguments, environment=environment) as launcher:
        url = launcher.read_until("gateway ready").split()[-1]
        assert launcher.process.stdout is not None
        greeting = ""
        while "Ctrl-C stops" not in greeting:
            greeting += launcher.process.stdout.readline()
        answer = httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, trust_env=False, timeout=60)
        assert answer.status_code == 200
        launcher.triton().kill()
        launcher.read_until("starting Triton again")
        launcher.ready_url()  # with a full disk too
        launcher.process.terminate()
        _, said = launcher.process.communicate()
    assert launcher.process.returncode == 0
    assert "Traceback" not in said
    assert list(tmp_path.glob("tritonclip-*")) == []


LOGS = {"a folder": "{}", "in a file": "{}/file/log", "in /proc": "/proc/log", "an empty name": ""}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_log_that_cannot_be_written_is_a_message(tiny_repository: Path, tmp_path: Path, log: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogProblem, match=r"the log cannot be written \(.*--log"):
        Server(tiny_repository, FREE_PORTS, log=Path(log.format(tmp_path))).start()


def test_it_listens_on_loopback_alone(server: Server) -> None:
    listening = {
        c.laddr.ip.removeprefix("::ffff:")
        for c in psutil.Process(server.pid).net_connections()
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {LOOPBACK}
