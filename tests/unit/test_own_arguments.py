"""Keys on the command line of `tritonclip-server`, which the list of processes must not show."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import sys
from tritonclip_server.cli import main
try:
    main()
except SystemExit:
    print(repr(sys.argv[1:]))
    print(repr(open("/proc/self/cmdline").read().split("\\0")[3:-1]))
"""


@pytest.mark.parametrize("name", ["serve", "labels", "head"])
def test_a_key_is_overwritten_and_the_command_gets_it_all_the_same(name: str) -> None:
    given = [name, "--admin-key", "s3cret", "--admin-key=s3cret", "--admin=s3cret", "s3cretary", "", "--help"]
    shown = [name, "--admin-key", "******", "--admin-key=******", "--admin=******", "s3cretary", "", "--help"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *given], cwd=root, capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.splitlines()[-2:] == [repr(given), repr(shown)]


def test_a_key_that_is_missing_is_none() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tritonclip_server", "serve", "--admin-key"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "expected one argument" in done.stderr) == (2, True)
