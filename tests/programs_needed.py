"""Programs of the system that tests run: on PATH, or where scripts/setup-tests unpacks them."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / "build" / "tools" / "usr" / "bin"


def find_program(name: str) -> str:
    """The path of a program; where it is missing, the test that asked fails with its name and the remedy."""
    if path := shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(UNPACKED)])):
        return path
    pytest.fail(f"{name} is not installed: run scripts/setup-tests without SYSTEM_PACKAGES=0", pytrace=False)
