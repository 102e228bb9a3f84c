"""What the documentation names of this repository is there: modules to run, commands, folders and files."""

import re
from pathlib import Path

import pytest

from tritonclip_server.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "client/README.md", "model_repository/README.md")
DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in NAMES)]
FOLDERS = "client|deploy|docs|examples|load|model_repository|requirements|samples|scripts|server|tests"
MODULE = re.compile(r"python -m ((?:examples|load|scripts|tests)\.?[\w.]*)")
PLACE = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")

by_name = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@by_name
def test_modules_to_run(document: Path) -> None:
    named = {name.rstrip(".") for name in MODULE.findall(document.read_text(encoding="utf-8"))}
    assert [name for name in sorted(named) if not is_module(name)] == []


@by_name
def test_commands_of_the_server(document: Path) -> None:
    named = set(re.findall(r"tritonclip-server ([a-z]+)", document.read_text(encoding="utf-8")))
    assert named <= COMMANDS.keys()


@by_name
def test_folders_and_files(document: Path) -> None:
    places = set(PLACE.findall(document.read_text(encoding="utf-8")))
    assert [place for place in sorted(places) if not (ROOT / place).exists()] == []


def test_a_module_is_a_file_or_a_package_that_runs() -> None:
    assert is_module("load.capacity")
    assert is_module("scripts.gateway_reference")
    assert not is_module("load.no_such")
