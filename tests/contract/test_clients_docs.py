"""docs/clients.md has the lines of every program in tests/programs, as they are run there, and the versions run."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PROGRAMS = sorted(
    path
    for path in (ROOT / "tests" / "programs").glob("*/*")
    if path.suffix in (".py", ".mjs") and path.stem != "inputs"
)
REQUIREMENTS = (ROOT / "requirements" / "clients.txt").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements" / "clients.lock").read_text(encoding="utf-8")
NPM: dict[str, str] = json.loads((ROOT / "tests" / "programs" / "package.json").read_text())["dependencies"]
PYPI = dict(re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==(\S+)$", REQUIREMENTS, re.MULTILINE))


def lines_of(program: Path) -> str:
    """What a program says about the gateway: all that a reader has to paste."""
    found = re.search(r"^(?:#|//) lines\n(.*?)^(?:#|//) end$", program.read_text(), re.MULTILINE | re.DOTALL)
    assert found, program
    return found[1]


def test_there_is_a_row_and_a_block_of_lines_for_each_program() -> None:
    assert len(PROGRAMS) > 35
    blocks = re.findall(r"^```(?:python|js)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert sorted(blocks) == sorted(map(lines_of, PROGRAMS))
    headings = re.findall(r"^### (.*)$", GUIDE, re.MULTILINE)
    assert re.findall(r"^\| \[(.*?)\]\(#", GUIDE, re.MULTILINE) == headings
    assert len(headings) == len(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_says_nothing_else_about_the_gateway(program: Path) -> None:
    lines = lines_of(program)
    rest = program.read_text().replace(lines, "")
    assert not re.search(r"localhost|tclip-KEY|batch_size|chunk_size|encoding_format=|extra_", rest)


def test_the_versions_are_those_that_are_run() -> None:
    rows = re.findall(r"^\| \[.*?\]\(#.*?\) \| (.*?) \|", GUIDE, re.MULTILINE)
    named = {(name, version) for row in rows for name, version in re.findall(r"(\S+) ([\d.]+)", row)}
    assert named <= {*PYPI.items(), *NPM.items()}
    assert set(PYPI) | set(NPM) == {name for name, _ in named} | {"llama-index-core"}


def test_the_locks_hold_what_is_wanted_and_no_address_of_a_registry() -> None:
    locked = dict(re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==(\S+)", LOCK, re.MULTILINE))
    assert {name: locked[name] for name in PYPI} == PYPI
    assert "torch" not in locked
    lock = (ROOT / "tests" / "programs" / "package-lock.json").read_text()
    assert json.loads(lock)["packages"][""]["dependencies"] == NPM
    assert '"resolved"' not in lock
    assert "://" not in LOCK
