"""Fixtures that several kinds of test share."""

from pathlib import Path

import open_clip
import pytest

ARCHITECTURES = Path(__file__).with_name("architectures")


@pytest.fixture(scope="session")
def architectures() -> None:
    """Make open_clip know the small architectures that tests export."""
    open_clip.add_model_config(ARCHITECTURES)


pytest_plugins = ["tests.serving", "tests.clients", "tests.demo", "tests.launching"]
