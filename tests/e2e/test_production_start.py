"""What starts and watches Triton in the production container, run on the embedded Triton, flags of the compose file."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.compose_files import ROOT, services
from tests.modules import load_module
from tritonclip import Client
from tritonclip_server.embedded.environment import find_installation

HEALTH: Any = load_module(ROOT / "deploy/docker/triton_health.py")
FIRST_RELEASE: dict[str, str] = tomllib.loads((ROOT / "tests/data/triton_flags.toml").read_text())["first_release"]
EMBEDDED = "24.10"
ADMIN_KEY = "for-the-test"


@dataclass(frozen=True)
class Started:
    first: int  # what the container would start, and would send its signals to
    http: str
    grpc: str
    log: Path

    def triton(self) -> psutil.Process:
        (found,) = [each for each in psutil.Process(self.first).children() if each.name() == "tritonserver"]
        return found


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
    here = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    here += [f"--backend-directory={folder}", f"--cache-directory={installation.caches}"]
    here += ["--exit-timeout-secs=5"]  # all of which it takes once one of its processes is dead
    log = folder / "triton.log"

    def start() -> tuple[subprocess.Popen[bytes], list[int]]:
        ports = free_ports(3)
        on = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [ROOT / "deploy/docker/start_triton", *compose_flags(demo_repository), *here, *on],
                env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return process, ports

    process, ports = start()
    try:
        deadline = time.monotonic() + 120
        while not HEALTH.is_ready(f"http://127.0.0.1:{ports[0]}/v2/health/ready"):
            if process.poll() is not None and "already in use" in log.read_text():  # since, by a test beside this one
                process, ports = start()
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Started(process.pid, f"http://127.0.0.1:{ports[0]}", f"grpc://127.0.0.1:{ports[1]}", log)
    finally:
        process.terminate()
        try:
            process.wait(45)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_it_answers_and_the_operators_apis_are_closed(started: Started, request: pytest.FixtureRequest) -> None:
    with_key = "admin key" in request.node.name
    with Client(started.grpc) as client:
        assert client.embed_texts(["a red circle"]).features.shape == (1, 128)
    key = {"admin-key": ADMIN_KEY}
    for path in ("/v2/models/embed_image/config", "/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/status"):
        assert httpx.get(started.http + path, timeout=60).status_code == 403, path
        assert (httpx.get(started.http + path, headers=key, timeout=60).status_code == 200) == with_key, path
    statistics = httpx.get(f"{started.http}/v2/models/stats", timeout=60).status_code
    assert statistics == (403 if with_key else 200)


def test_nobody_can_read_a_key(started: Started) -> None:
    """Neither the operator's nor, where there is none, the random one that opens the same."""
    commands = [psutil.Process(started.first).cmdline(), started.triton().cmdline()]
    assert not any("admin-key" in argument or ADMIN_KEY in argument for command in commands for argument in command)
    assert ADMIN_KEY not in started.log.read_text()


def test_the_health_check_ends_a_server_with_a_dead_model_process(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HEALTH, "READY", f"{started.http}/v2/health/ready")
    monkeypatch.setattr(HEALTH, "MODEL", f"{started.http}/v2/models/{{}}")
    monkeypatch.setattr(HEALTH, "SEEN", tmp_path / "seen")
    monkeypatch.setattr(HEALTH, "FIRST_PROCESS", started.first)
    monkeypatch.setattr(HEALTH, "SECONDS", 60.0)
    assert [HEALTH.main(), HEALTH.main()] == [0, 0]
    triton = started.triton()
    seen = (tmp_path / "seen").read_text().splitlines()[2:]
    assert sorted(seen) == sorted(process.cmdline()[-2] for process in triton.children())
    assert len(seen) > 5
    victim = triton.children()[-1]
    instance = victim.cmdline()[-2]
    victim.kill()
    deadline = time.monotonic() + 30
    while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert HEALTH.is_ready(HEALTH.READY), "Triton says so itself, as from 26.04 on"
    assert HEALTH.main() == 1
    assert f"Triton's processes of {instance} died" in capsys.readouterr().out
    _, alive = psutil.wait_procs([triton], timeout=60)
    assert alive == []
