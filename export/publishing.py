"""A whole served repository at once, or nothing: built beside the old one and exchanged with it.

`renameat2(RENAME_EXCHANGE)` swaps two folders in one step, so there is no moment at which a reader, a crash or a second
exporter finds half a repository, or none.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.configs import OVERLAY

SOURCE = Path(__file__).resolve().parents[1] / "model_repository"
GENERATED = (
    "manifest.json",
    "model.pt",
    "tokenizer.json",
    "head_*",
    "classify_*",
)  # what an export into model_repository/ itself leaves there
AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def staged(destination: Path, host: str) -> Iterator[Path]:
    """A fresh copy of model_repository/ to fill; it takes the destination's place when the block ends without error."""
    destination = destination.resolve()
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent))
    try:
        shutil.copytree(SOURCE, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", *GENERATED))
        if host == "cpu":
            shutil.copytree(OVERLAY, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        staging.chmod(0o755)  # mkdtemp makes it private; Triton may run as another user
        yield staging
        _take_place(staging, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def amended(repository: Path) -> Iterator[Path]:
    """A copy of a served repository to add to; it takes the original's place when the block ends without error.

    Files are shared with the original (hard links) where the file system can: replace them, never write into them.
    """
    repository = repository.resolve()
    staging = Path(tempfile.mkdtemp(prefix=f".{repository.name}.", suffix=".partial", dir=repository.parent))
    try:
        shutil.copytree(repository, staging, dirs_exist_ok=True, copy_function=_link_or_copy)
        yield staging
        _take_place(staging, repository)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _take_place(staging: Path, destination: Path) -> None:
    """Put `staging` where `destination` is; whatever was there ends up under the staging name."""
    if not destination.exists():
        staging.rename(destination)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(staging), AT_FDCWD, os.fsencode(destination), RENAME_EXCHANGE) == 0:
        return
    # A file system without the exchange (some network mounts): two renames, whole repositories on both sides of them.
    old = staging.with_suffix(".old")
    destination.rename(old)
    staging.rename(destination)
    shutil.rmtree(old, ignore_errors=True)
