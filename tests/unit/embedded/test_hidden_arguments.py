"""Arguments that the list of processes does not show, and that the program gets all the same."""

import ctypes
import json
import os
import signal
import subprocess
import sys

import pytest

from tritonclip_server.embedded import hidden_arguments
from tritonclip_server.embedded.hidden_arguments import start

SECRETS = ["--http=apis:key=s3cret", "--grpc=ä b\tc", ""]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], open('/proc/self/cmdline').read().split('\\0')[:-1]]))"


def run(hidden: list[str], warn: list[str]) -> tuple[list[str], list[str]]:
    """What a program gets as its arguments, and what everybody sees of them."""
    process = start([sys.executable, "-c", SHOW, "plain"], hidden, os.environ, warn.append, stdout=-1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    got, seen = json.loads(output)
    return got, seen


def test_the_program_gets_what_nobody_sees() -> None:
    warnings: list[str] = []
    got, seen = run(SECRETS, warnings)
    assert got == ["plain", *SECRETS]
    assert seen[3:] == ["plain", *(f"TRITONCLIP_HIDDEN_{number}" for number in range(3))]
    assert warnings == []


# Prints once it sees its argument, which it gets backwards, among those of any process.
WATCH = """
import glob, sys
wanted = sys.argv[1][::-1].encode()
while True:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if wanted in open(path, "rb").read():
                sys.exit("seen")
        except OSError:
            pass
"""


def test_nobody_sees_it_at_any_moment() -> None:
    """Watched from before the program starts: a moment would be enough for whoever waits for it."""
    secret = f"moment{os.getpid()}" * 7  # the watcher of another run of these tests on this machine wants another one
    watcher = subprocess.Popen([sys.executable, "-c", WATCH, secret[::-1]], stderr=subprocess.PIPE)
    try:
        for _ in range(10):
            start(["true"], [secret], os.environ, print).wait()
        assert watcher.poll() is None
        shown = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", secret])
        assert watcher.wait(60) == 1  # that one it did see
        shown.kill()
        shown.wait()
    finally:
        watcher.kill()
        watcher.communicate()


def test_where_tracing_is_forbidden_it_starts_all_the_same_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        ctypes.set_errno(1)
        return -1

    monkeypatch.setattr(hidden_arguments._LIBC, "ptrace", forbidden)
    warnings: list[str] = []
    got, _ = run(SECRETS, warnings)
    assert got == ["plain", *SECRETS]
    assert len(warnings) == 1
    assert "can read the keys" in warnings[0]


def test_signals_reach_a_program_that_was_started_so() -> None:
    process = start(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], ["x"], os.environ, print, stdout=-1
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()


def test_a_program_that_ends_at_once_has_ended() -> None:
    process = start(["true"], ["x"], os.environ, print)
    assert process.wait(30) == 0
