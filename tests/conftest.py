"""Fixtures that several kinds of test share."""

import os
from pathlib import Path

import hypothesis
import open_clip
import pytest
import torch

ARCHITECTURES = Path(__file__).with_name("architectures")

if "PYTEST_XDIST_WORKER" in os.environ:  # the other core has tests too: threads would wait for each other
    torch.set_num_threads(1)

# An example that takes long says that the machine stood still, not that anything is wrong.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def architectures() -> None:
    """Make open_clip know the small architectures that tests export."""
    open_clip.add_model_config(ARCHITECTURES)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: what is packed holds the time, and processes must find the same tests."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


pytest_plugins = ["tests.serving", "tests.clients", "tests.demo", "tests.launching"]
