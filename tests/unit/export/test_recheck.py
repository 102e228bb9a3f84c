"""`export VARIANT --check FOLDER`: a published repository against its checkpoint once more."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.serving import publish, take_as_published
from tritonclip_server.export.cli import main

CHECK = ["tiny-convnext/none", "--random", "--check"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish("tiny-convnext", tmp_path_factory.mktemp("check") / "served")


def test_what_was_published_answers_as_its_checkpoint(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    assert main([*CHECK, str(repository)]) == 0
    said = capsys.readouterr().out
    for encoder in ("image_encoder", "text_encoder"):
        assert f"{encoder}: smallest cosine 0.99999" in said or f"{encoder}: smallest cosine 1.0" in said
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


def test_other_weights_are_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny-resnet/none", "--random", "--check", str(repository)]) == 1
    assert "was made of other weights than those of tiny-resnet" in capsys.readouterr().err


def test_a_damaged_file_is_told(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "served"))
    (copy / "text_encoder" / "1" / "model.pt").write_bytes(b"")
    assert main([*CHECK, str(copy)]) == 1
    assert "does not hold the files that were published" in capsys.readouterr().err


def test_other_answers_are_told(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder with a changed weight, taken for what was published."""
    copy = Path(shutil.copytree(repository, tmp_path / "served"))
    path = copy / "text_encoder" / "1" / "model.pt"
    model = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name.endswith("positional_embedding")).mul_(-3)
    model.save(str(path))
    take_as_published(copy)
    assert main([*CHECK, str(copy)]) == 1
    assert "text_encoder in fp32 at batch 1 reaches cosine" in capsys.readouterr().err


def test_a_folder_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CHECK, str(tmp_path)]) == 1
    assert "is no served repository" in capsys.readouterr().err
