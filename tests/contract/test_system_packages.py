"""What `make test` installs is said before, can be declined, and is then named by the tests that need it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.programs_needed import find_program

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"curl", "chromium", "chromium-driver"}


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A PATH of a root without curl and a browser, whose apt-get only says that it was called."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(find_program(name))
    for name, script in {"id": "echo 0", "apt-get": 'echo "apt-get $*" >&2', "prometheus": "", "promtool": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def setup_tests(machine: Path, **environment: str) -> str:
    done = subprocess.run(
        [ROOT / "scripts" / "setup-tests"],
        env={"PATH": str(machine), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def test_packages_are_named_before_they_are_installed(bare_machine: Path) -> None:
    said, *calls = setup_tests(bare_machine).splitlines()
    assert "as root" in said
    assert "SYSTEM_PACKAGES=0" in said
    assert set(said.split()) >= PACKAGES
    assert [call.split()[1] for call in calls] == ["update", "install"]
    assert set(calls[1].split()) >= PACKAGES


def test_the_readme_names_them_all() -> None:
    named = set(
        re.findall(r"`([a-z-]+)`", (ROOT / "README.md").read_text(encoding="utf-8").split("its tests need:")[1])
    )
    script = (ROOT / "scripts" / "setup-tests").read_text(encoding="utf-8")
    assert set(" ".join(re.findall(r"missing\+=\((.*)\)", script)).split()) == PACKAGES | {"faketime"} <= named


def test_installing_can_be_declined(bare_machine: Path) -> None:
    (said,) = setup_tests(bare_machine, SYSTEM_PACKAGES="0").splitlines()
    assert said.startswith("SYSTEM_PACKAGES=0: not installed")
    assert set(said.split()) >= PACKAGES


def test_a_test_that_needs_what_is_missing_fails_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.access(find_program("bash"), os.X_OK)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(pytest.fail.Exception, match=r"^chromium is not installed: .*SYSTEM_PACKAGES=0"):
        find_program("chromium")
