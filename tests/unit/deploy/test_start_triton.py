"""What the production container starts, over a stand-in for tritonserver: its flags, its keys, its signals, its end."""

import os
import runpy
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tritonclip_server.embedded.process import adopt_orphans
from tritonclip_server.embedded.triton_tracing import trace_flags

START = Path(__file__).resolve().parents[3] / "deploy/docker/start_triton"
APIS = "shared-memory,model-repository,model-config,trace,logging"
SHOW = 'printf "%s\\n" "$@"; tr "\\0" "\\n" < /proc/$$/cmdline > "$SEEN"; echo ${TRITONCLIP_ADMIN_KEY-none}'

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts it with a shell script in tritonserver's place."""

    def start_it(
        script: str,
        *flags: str,
        key: str | None = None,
        more: str = "",
        endpoint: str | None = None,
        **options: Any,
    ) -> "subprocess.Popen[str]":
        (tmp_path / "tritonserver").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "tritonserver").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SEEN": str(tmp_path / "seen")}
        environment["TRITON_OPTIONS"] = more
        environment |= {} if key is None else {"TRITONCLIP_ADMIN_KEY": key}
        environment |= {} if endpoint is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        return subprocess.Popen([START, *flags], env=environment, stdout=subprocess.PIPE, text=True, **options)

    return start_it


@pytest.mark.parametrize(("key", "closed"), [("s3cret", f"{APIS},statistics"), ("", APIS), (None, APIS)])
def test_triton_gets_its_flags_and_keys_that_nobody_sees(
    start: Start, tmp_path: Path, key: str | None, closed: str
) -> None:
    output, _ = start(SHOW, "--model-repository=/models/a b", "--metrics-config=x", key=key).communicate(timeout=60)
    *flags, http, grpc, environment = output.splitlines()
    assert flags == ["--model-repository=/models/a b", "--metrics-config=x"]
    for name, flag in (("http-restricted-api", http), ("grpc-restricted-protocol", grpc)):
        start_of_flag = f"--{name}={closed}:admin-key="
        assert flag.startswith(start_of_flag)
        given = flag.removeprefix(start_of_flag)
        assert given == key if key else len(given) == 36  # a random one
        assert given not in (tmp_path / "seen").read_text()
    assert environment == "none"


def test_an_endpoint_for_spans_has_triton_send_them(start: Start) -> None:
    command = 'printf "%s\\n" "$@"'
    output, _ = start(command, endpoint="http://collector:4318").communicate(timeout=60)
    assert output.splitlines()[:4] == trace_flags({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    output, _ = start(command, endpoint="").communicate(timeout=60)
    assert "trace-config" not in output


def test_a_folder_of_repositories_stands_for_all_of_them(start: Start, tmp_path: Path) -> None:
    for name in ("more/vit", "more/scenes", "more/.vit.abc.partial", "more/notes", "single"):
        (tmp_path / name).mkdir(parents=True)
        if name != "more/notes":
            (tmp_path / name / "manifest.json").touch()
    flags = [f"--model-repository={tmp_path / 'single'}", "--model-repository=s3://bucket/more", "--log-info=true"]
    options = f"--model-repository={tmp_path / 'more'} --log-format='ISO8601'"
    output, _ = start("printf '%s\\n' \"$@\"", *flags, more=options).communicate(timeout=60)
    assert output.splitlines()[:-2] == [
        *flags,
        f"--model-repository={tmp_path / 'more' / 'scenes'}",
        f"--model-repository={tmp_path / 'more' / 'vit'}",
        "--log-format=ISO8601",
    ]


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -SEGV $$", 139)]
)
def test_it_ends_as_triton_ends(start: Start, script: str, code: int) -> None:
    process = start(script)
    process.communicate(timeout=60)
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_reaches_triton_and_is_waited_for(start: Start, number: signal.Signals) -> None:
    script = "trap 'echo stopping; sleep 0.3; echo stopped; exit 5' TERM INT; echo ready; while :; do sleep 0.05; done"
    process = start(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output == "stopping\nstopped\n"
    assert process.returncode == 5


def test_a_triton_that_heeds_no_signal_yet_ends_at_once(start: Start) -> None:
    """While it loads it has the kernel's own answer to SIGTERM, which a container's first process would not have."""
    process = start("echo loading; exec sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    process.stdout.close()


def test_a_triton_that_is_not_there_is_named(start: Start, tmp_path: Path) -> None:
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run([START], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: tritonserver cannot be started: No such file or directory\n"


def test_orphans_are_buried(start: Start) -> None:
    """As the first process of a container it gets those that Triton leaves."""
    process = start("sh -c 'sleep 0.3 & echo $!'; exec sleep 600", preexec_fn=adopt_orphans)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())
    deadline = time.monotonic() + 30
    while psutil.pid_exists(orphan):  # also as a zombie
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)


def test_what_a_killed_triton_left_in_shared_memory_is_cleared_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = runpy.run_path(str(START))
    (tmp_path / "triton_python_backend_shm_region_7b4f").write_bytes(b"pixels")
    (tmp_path / "somebody's").write_bytes(b"")
    (tmp_path / "triton_python_backend_shm_region_kept").mkdir()  # cannot be removed as a file
    program["clear"](tmp_path)
    assert {left.name for left in tmp_path.iterdir()} == {"somebody's", "triton_python_backend_shm_region_kept"}
    assert "region_kept" in capsys.readouterr().err


def test_shared_memory_is_left_alone_where_it_is_not_the_first_process(start: Start) -> None:
    """Beside other Tritons on a machine, such as those of tests."""
    region = Path("/dev/shm") / f"triton_python_backend_shm_region_test_{os.getpid()}"
    region.touch()
    try:
        start("exit 0").communicate(timeout=60)
        assert region.exists()
    finally:
        region.unlink()
