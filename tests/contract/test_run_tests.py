"""`scripts/run-tests`, which `make test` runs: what runs beside what, and that nothing is passed over in silence."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import os
import pytest

def write(name):
    with open({log!r}, "a") as log:
        log.write(name + " " + ("beside" if "PYTEST_XDIST_WORKER" in os.environ else "alone") + "\\n")

@pytest.mark.alone
def test_measured():
    write("measured")
    assert {measured}

def test_ordinary():
    write("ordinary")
    assert {ordinary}
"""


def run(folder: Path, *arguments: str, measured: bool = True, ordinary: bool = True) -> tuple[int, list[str]]:
    """The exit code, and which tests ran how, in their order."""
    log = folder / "log"
    log.touch()
    (folder / "test_two.py").write_text(TESTS.format(log=str(log), measured=measured, ordinary=ordinary))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "xdist.plugin,pytest_timeout",
    }  # quick to start
    command = [str(ROOT / "scripts/run-tests"), "-c", "pyproject.toml", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, log.read_text().splitlines()


@pytest.mark.parametrize("failing", ["measured", "ordinary"])
def test_those_that_measure_run_alone_and_last_and_any_failure_counts(tmp_path: Path, failing: str) -> None:
    assert run(tmp_path, **{failing: False}) == (1, ["ordinary beside", "measured alone"])


@pytest.mark.parametrize(
    ("selected", "code", "ran"),
    [("measured", 0, ["measured alone"]), ("ordinary", 0, ["ordinary beside"]), ("neither", 5, [])],
)
def test_a_selection_may_be_of_one_part(tmp_path: Path, selected: str, code: int, ran: list[str]) -> None:
    assert run(tmp_path, "-k", selected) == (code, ran)


def test_a_wrong_argument_ends_it(tmp_path: Path) -> None:
    assert run(tmp_path, "--no-such-option") == (4, [])
