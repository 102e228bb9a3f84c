"""A whole served repository at once, or nothing: built beside the old one and exchanged with it. Or models of one.

`renameat2(RENAME_EXCHANGE)` swaps two folders in one step, so there is no moment at which a reader, a crash or a second
exporter finds half a repository, or none. Models that are added leave all others untouched, down to the times of their
links: Triton goes by those, and would load an encoder again for them.

An exporter keeps a lock on the folder that it fills; one that nobody has a lock on was left by an exporter that was
killed, and the next one removes it.
"""

import ctypes
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tritonclip_server.export.configs import OVERLAY
from tritonclip_server.export.errors import DestinationTaken
from tritonclip_server.resources import MODEL_REPOSITORY

GENERATED = (
    "manifest.json",
    "model.pt",
    "tokenizer.json",
    "head_*",
    "classify_*",
)  # what an export into model_repository/ itself leaves there
CACHES = ("__pycache__", ".*_cache")  # of Python, and of tools that check sources
PARTIAL, OLD = ".partial", ".old"
# Has this file, behind its name if it has one: sources, and what is published of them.
EVERY_REPOSITORY = Path("manifest", "config.pbtxt")
AT_FDCWD = -100
RENAME_EXCHANGE = 2
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # of a kernel or a file system without it


@contextmanager
def staged(destination: Path, host: str) -> Iterator[Path]:
    """A fresh copy of model_repository/ to fill; it takes the destination's place when the block ends without error.

    Raises DestinationTaken.
    """
    check_destination(destination)
    destination = destination.resolve()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(destination) as staging:
        shutil.copytree(
            MODEL_REPOSITORY, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*CACHES, *GENERATED)
        )
        if host == "cpu":
            shutil.copytree(OVERLAY, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*CACHES))
        staging.chmod(0o755)  # mkdtemp makes it private; Triton may run as another user
        yield staging
        with _locked(destination.parent):
            _take_place(staging, destination)


@contextmanager
def amended(repository: Path, accept: Callable[[], None], obsolete: Callable[[], Iterable[Path]]) -> Iterator[Path]:
    """An empty folder for models, which take their places in a served repository when the block ends without error.

    `accept` is called when they are there. Where it raises, what was there before is put back, and meanwhile nobody
    else publishes. Then the `obsolete` models of the repository are removed.
    """
    repository = repository.resolve()
    with _scratch(repository) as staging:
        yield staging
        with _locked(repository.parent):
            placed: list[str] = []
            try:
                # head_NAME.EDITION before the ensembles that are made of it.
                for name in sorted((model.name for model in staging.iterdir()), reverse=True):
                    _take_place(staging / name, repository / name)
                    placed.append(name)
                accept()
            except BaseException:
                for name in reversed(placed):
                    _take_place(repository / name, staging / name)
                raise
            for model in obsolete():
                model.rename(staging / model.name)


@contextmanager
def removed(models: Iterable[Path], repository: Path) -> Iterator[None]:
    """Models that a served repository has no more in the block. They are put back where that raises, else deleted."""
    repository = repository.resolve()
    with _scratch(repository) as staging, _locked(repository.parent):
        gone: list[str] = []
        try:
            for name in sorted(model.name for model in models):  # ensembles before head_NAME.EDITION
                (repository / name).rename(staging / name)
                gone.append(name)
            yield
        except BaseException:
            for name in reversed(gone):
                (staging / name).rename(repository / name)
            raise


def check_destination(destination: Path) -> None:
    """Raise DestinationTaken where publishing would remove what is no repository: a person's own file or folder."""
    try:
        is_replaceable = not destination.exists() or (
            destination.is_dir()
            and (
                any(any(destination.glob(f"{name}{EVERY_REPOSITORY}")) for name in ("", "*."))
                or not any(destination.iterdir())
            )
        )
    except OSError as error:
        raise DestinationTaken(f"{destination}: {error.strerror}") from error
    if not is_replaceable:
        raise DestinationTaken(
            f"{destination} is no served repository, and would be removed: name a folder that is not there yet"
        )


def clear_leftovers(destination: Path) -> None:
    """Remove what exporters that were killed left beside a repository; put back one that was taken away half-way."""
    destination = destination.resolve()
    if destination.parent.is_dir():
        with _locked(destination.parent):
            _clear(destination)


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """An empty folder beside the destination, removed at the end."""
    with _locked(destination.parent):
        _clear(destination)
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=PARTIAL, dir=destination.parent))
        descriptor = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _clear(destination: Path) -> None:
    for folder in sorted(destination.parent.glob(f".{glob.escape(destination.name)}.????????.*")):
        if folder.suffix == OLD and not destination.exists():
            folder.rename(destination)
        elif folder.suffix in (OLD, PARTIAL) and not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among exporters, for the moment that it takes to make a folder or to exchange two."""
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """A descriptor that keeps others from locking a folder until it is closed, or this process has ended.

    Where the file system has no such locks (some network mounts), it keeps nobody, and nothing is ever cleared.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _in_use(folder: Path) -> bool:
    """Whether an exporter has a lock on it, or nobody can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def link_or_copy(source: str, target: str) -> None:
    """A hard link where the file system can, for `shutil.copytree`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _take_place(staging: Path, destination: Path) -> None:
    """Put `staging` where `destination` is; whatever was there ends up under the staging name."""
    if not destination.exists():
        staging.rename(destination)
    elif not _exchange(staging, destination):
        # Two renames, whole repositories on both sides of them.
        old = staging.with_name(staging.name.removesuffix(PARTIAL) + OLD)
        destination.rename(old)
        try:
            staging.rename(destination)
        except OSError:
            old.rename(destination)
            raise
        old.rename(staging)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system cannot (an old C library, some network mounts)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    return False
