"""Who may import whom in load/: core nobody else, and capacity, faults, search and users each core alone."""

import ast
from pathlib import Path

import pytest

LOAD = Path(__file__).resolve().parents[3] / "load"
MAY = {folder: {folder, "core"} for folder in ("core", "users", "capacity", "faults", "search")}


def imported(path: Path) -> set[str]:
    """The modules that a file imports, whole and as `from` has them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("folder", MAY)
def test_folders_keep_apart(folder: str) -> None:
    for path in (LOAD / folder).glob("*.py"):
        folders = {name.split(".")[1] for name in imported(path) if name.startswith("load.")}
        assert folders <= MAY[folder], path


def test_nothing_private_of_the_client_is_used() -> None:
    for path in LOAD.rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith("tritonclip._")], path
