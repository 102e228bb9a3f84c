"""A served repository appears whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.publishing import SOURCE, staged


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_new_repository_replaces_the_old_one_whole(tmp_path: Path) -> None:
    destination = tmp_path / "served"
    destination.mkdir()
    (destination / "of-the-old-one").write_text("old")
    with staged(destination, "gpu") as repository:
        (repository / "manifest.json").write_text("{}")
        assert tree(destination) == {"of-the-old-one": b"old"}
    assert (destination / "manifest.json").read_text() == "{}"
    assert not (destination / "of-the-old-one").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_a_failure_leaves_the_old_repository_as_it_was(tmp_path: Path) -> None:
    destination = tmp_path / "served"
    destination.mkdir()
    (destination / "manifest.json").write_text("old")

    def fail() -> None:
        with staged(destination, "gpu") as repository:
            (repository / "manifest.json").write_text("new")
            raise RuntimeError("drift")

    with pytest.raises(RuntimeError, match="drift"):
        fail()
    assert tree(destination) == {"manifest.json": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_exporter_killed_half_way_leaves_the_old_repository_as_it_was(
    number: signal.Signals, tmp_path: Path
) -> None:
    destination = tmp_path / "served"
    destination.mkdir()
    (destination / "manifest.json").write_text("old")
    script = (
        "import signal, sys, time, pathlib; from export.publishing import staged\n"
        # A shell's background job, in which these tests may run, ignores SIGINT, and so would its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with staged(pathlib.Path(sys.argv[1]), 'gpu') as repository:\n"
        "    (repository / 'manifest.json').write_text('new'); print('half way', flush=True); time.sleep(60)\n"
    )
    root = str(SOURCE.parent)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(destination)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as exporter:
        assert exporter.stdout is not None
        assert exporter.stdout.readline() == "half way\n"
        exporter.send_signal(number)
    assert exporter.returncode != 0
    assert tree(destination) == {"manifest.json": b"old"}


def test_what_an_earlier_export_left_in_the_source_is_not_copied(tmp_path: Path) -> None:
    with staged(tmp_path / "served", "gpu") as repository:
        names = {path.name for path in repository.rglob("*")}
    assert names.isdisjoint({"manifest.json", "model.pt", "tokenizer.json", "__pycache__"})
