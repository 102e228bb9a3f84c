"""A file of weights that is damaged is found before anybody is answered, by the launcher and by Triton without it."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.serving import start
from tritonclip_server.embedded.errors import RepositoryProblem, ServerDied

FILE = "text_encoder/1/model.pt"
SIZE = 200_000


@pytest.fixture
def damaged(tiny_repository: Path, tmp_path: Path) -> Path:
    """A repository whose text encoder has lost a few hundred of its tokens, and loads all the same."""
    repository = Path(shutil.copytree(tiny_repository, tmp_path / "damaged"))
    data = bytearray((repository / FILE).read_bytes())
    middle = len(data) // 2
    assert any(data[middle : middle + SIZE])
    data[middle : middle + SIZE] = bytes(SIZE)
    (repository / FILE).write_bytes(data)
    torch.jit.load(repository / FILE)  # type: ignore[no-untyped-call]
    return repository


def test_neither_the_launcher_nor_triton_serves_it(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RepositoryProblem, match=f"{FILE} is damaged.*tritonclip-server export VARIANT"):
        start(damaged, tmp_path / "log")
    # In production nothing of ours stands before Triton: the manifest model keeps it from starting.
    monkeypatch.setattr("tritonclip_server.embedded.server.check_repositories", lambda folder: [])
    with pytest.raises(ServerDied, match=f"{FILE} is damaged"):
        start(damaged, tmp_path / "log")
