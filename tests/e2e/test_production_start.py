"""What starts and watches Triton in the production container, run on the embedded Triton, flags of the compose file."""

import importlib.util
import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import psutil
import pytest

from serve.environment import find_installation
from tests.compose_files import ROOT, services
from tritonclip import Client

FIRST_RELEASE: dict[str, str] = tomllib.loads((ROOT / "tests/data/triton_flags.toml").read_text())["first_release"]
EMBEDDED = "24.10"
ADMIN_KEY = "for-the-test"


@dataclass(frozen=True)
class Started:
    pid: int
    http: str
    grpc: str


def compose_flags(repository: Path) -> list[str]:
    """The flags of the compose file, those alone left out that the embedded Triton is too old for."""
    flags = services("docker-compose.yml")["triton"]["command"][1:]
    known = [flag for flag in flags if FIRST_RELEASE[flag.removeprefix("--").split("=")[0]] <= EMBEDDED]
    assert len(flags) - len(known) <= 1
    return [f"--model-repository={repository}" if "--model-repository" in flag else flag for flag in known]


@pytest.fixture(scope="module", params=[None, ADMIN_KEY], ids=["no key", "admin key"])
def started(
    request: pytest.FixtureRequest, demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("production")
    installation = find_installation()
    installation.copy_backends(folder)
    environment = installation.environment()
    environment["PATH"] = os.pathsep.join([str(installation.binary.parent), environment["PATH"]])
    environment["TRITONCLIP_ADMIN_KEY"] = request.param or ""
    ports = free_ports(3)
    here = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    here += [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
    here += [f"--backend-directory={folder}", f"--cache-directory={installation.caches}"]
    log = folder / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [ROOT / "deploy/docker/start_triton", *compose_flags(demo_repository), *here],
            env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not health.is_ready(f"http://127.0.0.1:{ports[0]}/v2/health/ready"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Started(process.pid, f"http://127.0.0.1:{ports[0]}", f"grpc://127.0.0.1:{ports[1]}")
    finally:
        process.terminate()
        try:
            process.wait(45)
        finally:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def load_health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("triton_health", ROOT / "deploy/docker/triton_health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


health = load_health()


def test_triton_is_the_process_that_was_started(started: Started) -> None:
    """In the container it is then the first one, which gets the engine's SIGTERM."""
    assert psutil.Process(started.pid).name() == "tritonserver"


def test_it_answers_and_the_operators_apis_are_closed(started: Started, request: pytest.FixtureRequest) -> None:
    with_key = "admin key" in request.node.name
    with Client(started.grpc) as client:
        assert client.embed_texts(["a red circle"]).features.shape == (1, 128)
    key = {"admin-key": ADMIN_KEY}
    for path in ("/v2/models/embed_image/config", "/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/status"):
        assert httpx.get(started.http + path).status_code == 403, path
        assert (httpx.get(started.http + path, headers=key).status_code == 200) == with_key, path
    statistics = httpx.get(f"{started.http}/v2/models/stats").status_code
    assert statistics == (403 if with_key else 200)


def test_the_health_check_tells_a_dead_model_process(started: Started, tmp_path: Path) -> None:
    seen, proc, ready = tmp_path / "seen", Path("/proc"), f"{started.http}/v2/health/ready"
    assert health.lost_processes(started.pid, seen, proc) == 0
    assert int(seen.read_text()) > 5
    assert health.lost_processes(started.pid, seen, proc) == 0
    victim = psutil.Process(started.pid).children()[-1]
    victim.kill()
    deadline = time.monotonic() + 30
    while health.lost_processes(started.pid, seen, proc) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert health.is_ready(ready), "Triton says so itself: then this check need not exist"
