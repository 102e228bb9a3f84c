"""What a program of an experiment says: whole lines, as long as it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from load.faults.service import Program, ServiceProblem

SAYS = """
import sys, time
print("first", flush=True)
print("ready at grpc://127.0", end="", flush=True)
time.sleep(0.5)
print(".0.1:8001", flush=True)
"""


def test_a_line_is_taken_when_it_is_whole_and_the_end_is_seen(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        program = Program(subprocess.Popen([sys.executable, "-c", SAYS], stdout=file), output)
    assert program.wait_for_line("ready") == "ready at grpc://127.0.0.1:8001"
    with pytest.raises(ServiceProblem, match="'first' was never said"):
        program.wait_for_line("first", after=1)
