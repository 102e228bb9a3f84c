"""The launcher: what it refuses and says, what it leaves behind, how it answers to signals and to death."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serve.environment import check_numpy, find_installation, find_libpython
from serve.errors import EnvironmentProblem, PortInUse, RepositoryProblem, ServerDied
from serve.server import LOOPBACK, Ports, Server
from tests.reference import PHOTOS
from tests.serving import FREE_PORTS, start, take_as_published
from tritonclip import Client, TritonClipError

ROOT = Path(__file__).resolve().parents[2]


class Launcher:
    """`python -m serve` in a process of its own, and what it says."""

    def __init__(self, repository: Path, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "serve", str(repository), "--log", str(folder / "triton.log"), *arguments]
        for endpoint in ("http", "grpc", "metrics"):
            command += [f"--{endpoint}-port", "0"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read_until(self, words: str) -> str:
        """The first line of its stderr with these words."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never said:\n{''.join(lines)}")

    def ready_url(self) -> str:
        return self.read_until("ready after").split()[-2]

    def triton(self) -> psutil.Process:
        (child,) = [c for c in psutil.Process(self.process.pid).children() if c.name() == "tritonserver"]
        return child


@pytest.fixture
def launcher(tiny_repository: Path, tmp_path: Path) -> Iterator[Launcher]:
    running = Launcher(tiny_repository, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
    running.process.communicate()


def leftovers(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def shared_memory(launcher_pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"tritonclip-{launcher_pid}-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_and_leaves_nothing(launcher: Launcher, number: signal.Signals) -> None:
    with Client(launcher.ready_url()) as client:
        client.embed_images(PHOTOS[:1])
    family = [launcher.triton().pid, *(child.pid for child in launcher.triton().children(recursive=True))]
    assert len(family) == 10  # Triton and its nine stubs
    assert shared_memory(launcher.process.pid)
    launcher.process.send_signal(number)
    assert launcher.process.wait() == 0
    assert leftovers(family) == []
    assert shared_memory(launcher.process.pid) == []


def test_a_signal_before_it_is_ready_ends_it_too(launcher: Launcher) -> None:
    launcher.read_until("starting Triton")
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.process.wait() == 0


@pytest.mark.parametrize("victim", ["image_encoder_0_0", "image_preprocess_0_1", "tritonserver"])
def test_a_killed_process_is_noticed_and_service_comes_back(launcher: Launcher, victim: str) -> None:
    url = launcher.ready_url()
    triton = launcher.triton()
    with Client(url) as client:
        before = client.embed_images(PHOTOS[:1]).features
    family = [triton, *triton.children()]
    next(process for process in family if victim in process.cmdline() or process.name() == victim).kill()
    said = launcher.read_until("error:")
    assert "starting Triton again" in said
    assert victim in said or "ended with code -9" in said
    assert launcher.ready_url() == url
    with Client(url) as client:
        assert (client.embed_images(PHOTOS[:1]).features == before).all()
    assert leftovers([process.pid for process in family]) == []


def test_a_killed_launcher_takes_triton_with_it(launcher: Launcher) -> None:
    launcher.ready_url()
    family = [launcher.triton(), *launcher.triton().children()]
    launcher.process.kill()
    launcher.process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_what_dies_again_and_again_is_given_up(tiny_repository: Path, tmp_path: Path) -> None:
    """A server that cannot stay up must end, so that whoever supervises it sees."""
    running = Launcher(tiny_repository, tmp_path)
    for _ in range(3):
        running.ready_url()
        running.triton().kill()
    running.ready_url()
    running.triton().kill()
    assert "giving up" in running.read_until("giving up")
    assert running.process.wait() == 1


def test_a_port_in_use_is_named(tiny_repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port}.*--http-port"):
            Server(tiny_repository, Ports(0, port, 0)).start()


def test_a_ready_server_of_somebody_else_is_not_taken_for_ours(server: Server, tiny_repository: Path) -> None:
    ours = Server(tiny_repository, server.ports)
    with httpx.Client(base_url=server.http_url) as http:
        assert server._answers(http)
        assert not ours._answers(http)
    with pytest.raises(PortInUse):
        ours.start()


def test_missing_repositories_manifests_and_artifacts_are_told_apart(tiny_repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryProblem, match=r"no such folder.*python -m export"):
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
    assert list(Path("/dev/shm").glob(f"{server._identity}*")) == []


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
    command = [sys.executable, "-m", "serve", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr


OPERATOR_CALLS = (
    ("GET", "/v2/models/embed_image/config"),
    ("POST", "/v2/repository/index"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
)


@pytest.mark.parametrize(("method", "path"), OPERATOR_CALLS)
def test_operator_apis_are_closed(server: Server, method: str, path: str) -> None:
    assert httpx.request(method, server.http_url + path).status_code == 403


def test_an_admin_key_opens_them_and_closes_statistics(tiny_repository: Path, tmp_path: Path) -> None:
    running = start(tiny_repository, tmp_path / "log", admin_key="s3cret")
    try:
        for method, path in OPERATOR_CALLS:
            key = {"admin-key": "s3cret"}
            assert httpx.request(method, running.http_url + path).status_code == 403
            if "cuda" not in path:  # closed for want of a GPU, not of a key
                assert httpx.request(method, running.http_url + path, headers=key).status_code == 200
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


def test_it_listens_on_loopback_alone(server: Server) -> None:
    listening = {
        c.laddr.ip.removeprefix("::ffff:")
        for c in psutil.Process(server.pid).net_connections()
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {LOOPBACK}


def test_clients_of_a_dying_server_get_an_error_not_silence(tiny_repository: Path, tmp_path: Path) -> None:
    running = start(tiny_repository, tmp_path / "log")
    try:
        with Client(running.grpc_url, timeout=3) as client:
            client.embed_images(PHOTOS[:1])
            os.kill(running.pid, signal.SIGKILL)
            with pytest.raises(TritonClipError):  # at the client's own timeout; a hang would end at the test's
                client.embed_images(PHOTOS[:1])
    finally:
        running.stop()
