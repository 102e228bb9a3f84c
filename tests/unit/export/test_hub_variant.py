"""`hf-hub:ORG/REPO` and `local-dir:FOLDER`, from a hub cache that a test lays out: the hub itself is out of reach."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.errors import UnknownVariant
from tritonclip_server.export.variants import HubVariant, LocalVariant, resolve
from tritonclip_server.repository.manifest import read_manifest
from tritonclip_server.resources import DEMO

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose hub cache holds the demo model as acme/shapes, and that asks nobody."""
    repository = tmp_path / "hub" / "models--acme--shapes"
    shutil.copytree(DEMO, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}


def export(environment: dict[str, str], variant: str, into: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tritonclip_server", "export", variant, "--host", "cpu", "--into", str(into)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_repository_of_the_hub_is_published_as_the_folder_that_it_is(hub: dict[str, str], tmp_path: Path) -> None:
    done = export(hub, "hf-hub:acme/shapes", tmp_path / "served")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "served") or {}
    assert manifest["variant"] == "acme--shapes"
    assert manifest["weights_sha256"] == load_checkpoint(resolve(f"local-dir:{DEMO}")).weights_digest()


def test_a_repository_that_is_nowhere_is_told(hub: dict[str, str], tmp_path: Path) -> None:
    done = export(hub, "hf-hub:acme/nothing", tmp_path / "served")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert line.startswith("error: hf-hub:acme/nothing: its open_clip_config.json cannot be read, from the hub nor")


def test_names() -> None:
    assert resolve("hf-hub:acme/shapes") == HubVariant("acme/shapes", "hub")
    assert isinstance(resolve(f"local-dir:{DEMO}"), LocalVariant)


@pytest.mark.parametrize(
    "name", ["hf-hub:", "hf-hub:acme", "hf-hub:acme/../x", "hf-hub:a/b/c", "local-dir:", "local-dir:/nowhere"]
)
def test_wrong_names(name: str) -> None:
    with pytest.raises(UnknownVariant):
        resolve(name)
