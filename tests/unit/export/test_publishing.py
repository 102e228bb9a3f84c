"""A served repository appears whole or not at all."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tritonclip_server.export import publishing
from tritonclip_server.export.errors import DestinationTaken
from tritonclip_server.export.publishing import EVERY_REPOSITORY, amended, clear_leftovers, staged
from tritonclip_server.resources import MODEL_REPOSITORY


def publish_old(destination: Path) -> dict[str, bytes]:
    """A repository of before, with what is in it."""
    (destination / EVERY_REPOSITORY).parent.mkdir(parents=True)
    (destination / EVERY_REPOSITORY).touch()
    (destination / "manifest.json").write_text("old")
    return tree(destination)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_new_repository_replaces_the_old_one_whole(tmp_path: Path) -> None:
    destination = tmp_path / "served"
    publish_old(destination)
    (destination / "of-the-old-one").write_text("old")
    old = tree(destination)
    with staged(destination, "gpu") as repository:
        (repository / "manifest.json").write_text("{}")
        assert tree(destination) == old
    assert (destination / "manifest.json").read_text() == "{}"
    assert not (destination / "of-the-old-one").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_a_failure_leaves_the_old_repository_as_it_was(tmp_path: Path) -> None:
    destination = tmp_path / "served"
    old = publish_old(destination)

    def fail() -> None:
        with staged(destination, "gpu") as repository:
            (repository / "manifest.json").write_text("new")
            raise RuntimeError("drift")

    with pytest.raises(RuntimeError, match="drift"):
        fail()
    assert tree(destination) == old
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_what_is_no_repository_is_never_replaced(tmp_path: Path) -> None:
    """`--into ~/Documents` would remove all that is in it."""
    folder, file = tmp_path / "documents", tmp_path / "thesis.txt"
    folder.mkdir()
    for path in (folder / "manifest.json", file):
        path.write_text("mine")
    before = tree(tmp_path)
    for taken in (folder, file, tmp_path):
        with pytest.raises(DestinationTaken, match="thesis|documents|" + tmp_path.name), staged(taken, "gpu"):
            pass
        assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    with staged(tmp_path / "empty", "gpu"):
        pass
    assert (tmp_path / "empty" / EVERY_REPOSITORY).is_file()


@contextmanager
def exporter_half_way(destination: Path) -> Iterator[subprocess.Popen[str]]:
    """An exporter in a process of its own, which waits between filling and publishing."""
    script = (
        "import signal, sys, time, pathlib; from tritonclip_server.export.publishing import staged\n"
        # A shell's background job, in which these tests may run, ignores SIGINT, and so would its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with staged(pathlib.Path(sys.argv[1]), 'gpu') as repository:\n"
        "    (repository / 'manifest.json').write_text('new'); print('half way', flush=True); time.sleep(60)\n"
    )
    root = str(MODEL_REPOSITORY.parent)
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
        yield exporter
        exporter.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_exporter_killed_half_way_leaves_the_old_repository_as_it_was(
    number: signal.Signals, tmp_path: Path
) -> None:
    destination = tmp_path / "served"
    old = publish_old(destination)
    with exporter_half_way(destination) as exporter:
        exporter.send_signal(number)
        assert exporter.wait() != 0
    assert tree(destination) == old
    assert len(list(tmp_path.iterdir())) == (2 if number == signal.SIGKILL else 1)
    with staged(destination, "gpu") as repository:
        (repository / "manifest.json").write_text("newer")
        assert set(tmp_path.iterdir()) == {destination, repository}, "the next export clears what that one left"
    assert list(tmp_path.iterdir()) == [destination]


def test_what_an_exporter_is_at_work_on_is_nobodys_to_clear(tmp_path: Path) -> None:
    destination = tmp_path / "served"
    (tmp_path / ".served.a_friend.backup").mkdir()
    (tmp_path / ".served-2.abcd1234.partial").mkdir()  # of another repository
    with exporter_half_way(destination):
        before = set(tmp_path.iterdir())
        assert len(before) == 3
        clear_leftovers(destination)
        with staged(destination, "gpu") as repository:
            (repository / "manifest.json").write_text("ours")
        assert set(tmp_path.iterdir()) == before | {destination}
    clear_leftovers(destination)
    assert len(list(tmp_path.iterdir())) == 3
    assert (destination / "manifest.json").read_text() == "ours"


def test_a_repository_that_was_taken_away_half_way_is_put_back(tmp_path: Path) -> None:
    """By an exporter that was killed between the two renames of a system without the exchange."""
    old = tmp_path / ".served.abcd1234.old"
    old.mkdir()
    (old / "manifest.json").write_text("old")
    clear_leftovers(tmp_path / "served")
    assert tree(tmp_path / "served") == {"manifest.json": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def exchange_fails_with(number: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library whose renameat2 fails with this error, or that has none."""

    class Library:
        def __init__(self, name: None, use_errno: bool) -> None:
            if number is not None:
                self.renameat2 = self._fail

        @staticmethod
        def _fail(*arguments: Any) -> int:
            ctypes.set_errno(number or 0)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Library)


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_without_an_exchange_two_renames_do(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange_fails_with(number, monkeypatch)
    for content in ("first", "second", "third"):
        with staged(tmp_path / "served", "gpu") as repository:
            (repository / "manifest.json").write_text(content)
        assert (tmp_path / "served" / "manifest.json").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["served"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EIO])
def test_another_failure_of_the_exchange_is_an_error_and_the_old_repository_stays(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "served"
    old = publish_old(destination)
    exchange_fails_with(number, monkeypatch)
    with pytest.raises(OSError, match=f"{os.strerror(number)}.*served") as caught, staged(destination, "gpu"):
        pass
    assert caught.value.errno == number
    assert tree(destination) == old
    assert list(tmp_path.iterdir()) == [destination]


def test_what_an_earlier_export_left_in_the_source_is_not_copied(tmp_path: Path) -> None:
    with staged(tmp_path / "served", "gpu") as repository:
        names = {path.name for path in repository.rglob("*")}
    assert names.isdisjoint({"manifest.json", "model.pt", "tokenizer.json", "__pycache__"})


def test_caches_of_tools_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__pycache__", ".mypy_cache", ".ruff_cache"):
        (tmp_path / "source" / "model" / "1" / name).mkdir(parents=True)
    (tmp_path / "source" / "model" / "1" / "model.py").touch()
    monkeypatch.setattr("tritonclip_server.export.publishing.MODEL_REPOSITORY", tmp_path / "source")
    with staged(tmp_path / "served", "gpu"):
        pass
    assert [path.name for path in (tmp_path / "served" / "model" / "1").iterdir()] == ["model.py"]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    repository = tmp_path / "served"
    for model in ("head_a", "head_a.1", "encoder"):
        (repository / model).mkdir(parents=True)
        (repository / model / "config").write_text(f"old {model}")
    return repository


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_models_take_their_places_and_leave_all_others_untouched(
    served: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(publishing, "_exchange", lambda *_: False)
    before = (served / "encoder" / "config").stat().st_ctime_ns
    for accepts in (False, True):
        accepted: list[dict[str, bytes]] = []

        def accept(accepts: bool = accepts, accepted: list[Any] = accepted) -> None:
            accepted.append(tree(served))
            if not accepts:
                raise RuntimeError("refused")

        with suppress(RuntimeError), amended(served, accept, lambda: [served / "head_a.1"]) as folder:
            for model in ("head_a", "head_a.2"):
                (folder / model).mkdir()
                (folder / model / "config").write_text(f"new {model}")
            assert tree(served).keys() == {"head_a/config", "head_a.1/config", "encoder/config"}
        new = {"head_a/config": b"new head_a", "head_a.2/config": b"new head_a.2"}
        old = {"head_a/config": b"old head_a", "head_a.1/config": b"old head_a.1"}
        others = {"encoder/config": b"old encoder"}
        assert accepted == [{**others, **old, **new}]
        assert tree(served) == others | (new if accepts else old)
        assert [path.name for path in served.parent.iterdir()] == ["served"]
    assert (served / "encoder" / "config").stat().st_ctime_ns == before, "Triton would load it again"
