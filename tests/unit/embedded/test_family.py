"""What a launcher starts ends with it, however it ends: real processes, and one that is killed at its worst moment."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from tritonclip_server.embedded import keeper
from tritonclip_server.embedded.family import Family

ROOT = Path(__file__).resolve().parents[3]
# A program with two processes of its own; none of the three heeds SIGTERM, as one that is loading a model does not.
STUBBORN = "trap '' TERM; sleep 600 & sleep 600 & wait; wait"
# A launcher that prints its family's process group, and then does nothing more.
LAUNCHER = """
import os, sys, time
from tritonclip_server.embedded.family import Family
family = Family(["sh", "-c", sys.argv[1]], os.environ)
print(os.getpgid(family.pid), flush=True)
time.sleep(600)
"""


def group(number: int) -> list[psutil.Process]:
    """The living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def wait_for_group(number: int, count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while len(group(number)) != count:
        assert time.monotonic() < deadline, group(number)
        time.sleep(0.05)


def test_nothing_outlives_a_killed_launcher() -> None:
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, STUBBORN], cwd=ROOT, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        number = int(launcher.stdout.readline())
        wait_for_group(number, 4)  # the keeper, the shell and its two
        launcher.kill()
    wait_for_group(number, 0, keeper.GRACE_SECONDS + 60)


def test_a_program_runs_in_the_folder_that_is_named(tmp_path: Path) -> None:
    family = Family(["pwd"], os.environ, folder=tmp_path)
    assert Path(family.output.read().decode().strip()) == tmp_path
    family.kill()


# A keeper with far more patience: a machine that stands still does not end in three seconds what it has begun.
PATIENT = "from tritonclip_server.embedded import keeper; keeper.GRACE_SECONDS = 600; keeper.main([])"


def test_what_has_begun_may_still_end(tmp_path: Path) -> None:
    """A program that heeds SIGTERM gets it at once, and has time."""
    path, python = tmp_path / "ended", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -E -S -c {shlex.quote(PATIENT)}\n")
    python.chmod(0o755)
    program = f"trap 'sleep {keeper.GRACE_SECONDS / 3}; echo ended > {path}; exit' TERM; echo; exec > /dev/null 2>&1; "
    program += "while :; do sleep 0.1; done"
    script = LAUNCHER.replace("family =", f"sys.executable = {str(python)!r}; family =")
    script = script.replace("print(", "family.output.readline(); print(")
    with subprocess.Popen([sys.executable, "-c", script, program], cwd=ROOT, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        number = int(launcher.stdout.readline())
        launcher.kill()
    try:
        wait_for(lambda: path.exists() and path.read_text() == "ended\n")
    finally:
        os.killpg(number, signal.SIGKILL)
    wait_for_group(number, 0)


def test_killing_a_family_ends_and_buries_all_of_it() -> None:
    script = LAUNCHER.replace(
        "time.sleep(600)", "time.sleep(0.5); family.kill(); import psutil; print(psutil.Process().children())"
    )
    script = "from tritonclip_server.embedded.process import adopt_orphans; adopt_orphans()\n" + script
    done = subprocess.run(
        [sys.executable, "-c", script, STUBBORN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    number, children = done.stdout.split("\n", 1)
    assert children.strip() == "[]"  # zombies too would be in the list
    assert group(int(number)) == []


def test_a_family_says_how_its_program_ended() -> None:
    family = Family(["sh", "-c", "read line && exit 1; exit 7"], os.environ)
    assert family.wait(30)
    assert family.poll() == 7
    family.kill()
    family.kill()  # twice is once
    family = Family(["sleep", "600"], os.environ)
    assert not family.wait(0.1)
    assert family.poll() is None
    family.terminate()
    assert family.wait(30)
    assert family.poll() == -signal.SIGTERM
    family.kill()


def test_a_program_that_cannot_be_started_leaves_no_keeper() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(FileNotFoundError):
        Family(["/no/such/program"], os.environ, hidden=["--secret"])
    with pytest.raises(FileNotFoundError):
        Family(["/no/such/program"], os.environ)
    assert {child.pid for child in psutil.Process().children()} <= before  # one that another test left may end
