"""Of what a start of Triton fails: by its last words, its exit code, and the work of its processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for
from tritonclip_server.embedded import failed_start
from tritonclip_server.embedded.errors import PortInUse, ServerDied, StartLost
from tritonclip_server.embedded.failed_start import Progress, cpu_seconds
from tritonclip_server.embedded.server import START_ATTEMPTS, Ports, Server


@pytest.mark.parametrize(
    ("said", "code", "kind"),
    [
        ("Triton ended with code -6 before it was ready", -signal.SIGABRT, StartLost),
        ("Triton ended with code -11 before it was ready", -signal.SIGSEGV, StartLost),
        ("Stub process 'similarity_0_0' is not healthy.", 1, StartLost),
        ("Failed to obtain the health mutex.", 1, StartLost),
        ("failed to load 'image_encoder': PytorchStreamReader failed", 1, ServerDied),
        ("Triton ended with code -9 before it was ready", -signal.SIGKILL, ServerDied),  # for want of memory, mostly
        ("Triton ended with code -15 before it was ready", -signal.SIGTERM, ServerDied),
        ("Socket '127.0.0.1:8000' already in use", None, PortInUse),
        ("Socket '127.0.0.1:8000' already in use", -signal.SIGABRT, PortInUse),
    ],
)
def test_what_another_start_may_mend_is_told_from_what_none_will(said: str, code: int | None, kind: type) -> None:
    error = failed_start.failed_start(said, code)
    assert type(error) is kind
    assert said in str(error)


def test_work_is_that_of_all_processes() -> None:
    child = "while True: pass"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", parent], start_new_session=True) as process:
        try:
            wait_for(lambda: cpu_seconds(process.pid) > 2)  # the parent alone uses a hundredth of that
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_only_what_does_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, worked = [1000.0], [3.0]
    monkeypatch.setattr(failed_start, "cpu_seconds", lambda pid: worked[0])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(1)
    for _ in range(10):  # little, and in the end enough
        clock[0] += failed_start.LOST_SECONDS - 1
        worked[0] += failed_start.LEAST_WORK + 0.1
        assert not progress.has_ended()
    clock[0] += failed_start.LOST_SECONDS - 1
    worked[0] += 0.3  # as much as one that only waits
    assert not progress.has_ended()
    clock[0] += 2
    assert progress.has_ended()


def test_a_process_that_is_gone_has_done_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu_seconds(process.pid) == 0.0


@pytest.mark.parametrize(
    ("error", "launches"),
    [
        (StartLost("lost\nits log"), START_ATTEMPTS),
        (PortInUse("taken"), START_ATTEMPTS),
        (ServerDied("a broken artifact"), 1),
    ],
)
def test_starts_are_few_and_the_last_one_says_why(
    error: ServerDied | PortInUse, launches: int, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Ports] = []
    said: list[str] = []

    def launch(server: Server, *_: Any) -> None:
        launched.append(server.ports)
        raise error

    monkeypatch.setattr(Server, "_launch", launch)
    with pytest.raises(type(error)) as caught:
        Server(tiny_repository, Ports(0, 0, 0), say=said.append).start()
    assert caught.value is error
    assert len(launched) == launches
    assert said == [f"{str(error).splitlines()[0]}; starting it again"] * (launches - 1)
