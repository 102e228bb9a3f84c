"""What a server leaves on this machine while it runs, and the removal of what dead ones left.

    TMPDIR/tritonclip-backends-PID-RANDOM/     the backends, copied for this server
    /dev/shm/tritonclip-PID-RANDOM.lock        and beside it the shared memory of its model processes: …-RANDOM*

Folder and lock file are locked for as long as the launcher or its keeper lives. The kernel lets go of the locks of the
dead, however they died, so what is not locked is nobody's: process ids would be used again, and mean other processes in
another container that shares the folders.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tritonclip_server.embedded.errors import EnvironmentProblem

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where stubs keep shared memory
PREFIX, FOLDER_PREFIX = "tritonclip-", "tritonclip-backends-"
_IDENTITY = re.compile(r"tritonclip-(\d+)-[0-9a-f]{8}")


class Claim:
    """What one server may leave: a folder, and shared memory named after its identity. `release` removes both."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        try:
            self.folder, self.descriptors = _claim(identity)
        except OSError as error:
            raise EnvironmentProblem(
                f"no place for Triton's backends and its shared memory ({error}); TMPDIR names a folder for the former"
            ) from error

    def clear_shared_memory(self) -> None:
        """Remove what the model processes of an ended server left; the claim stays."""
        lock = _lock_file(self.identity)
        for region in SHARED_MEMORY.glob(f"{self.identity}*"):
            if region != lock:
                _unlink(region)

    def release(self) -> None:
        """Remove everything."""
        remove(self.identity, self.folder)
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()


def remove(identity: str, folder: Path | None) -> None:
    """Remove what a server of this identity left; the lock last, for until then it says whose the rest is."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    lock = _lock_file(identity)
    for region in SHARED_MEMORY.glob(f"{identity}*"):
        if region != lock:
            _unlink(region)
    _unlink(lock)


def clear_abandoned() -> None:
    """Remove what servers left that died with their keepers; what cannot be removed is left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        if not _IDENTITY.fullmatch(folder.name.replace(FOLDER_PREFIX, PREFIX)):
            continue  # of a version that made no locks
        with _abandoned(folder) as gone:
            if gone:
                shutil.rmtree(folder, ignore_errors=True)
    for identity, process in _identities():
        lock = _lock_file(identity)
        if lock.exists():
            with _abandoned(lock) as gone:
                if gone:
                    remove(identity, None)
        elif not _exists(process):  # of a version that made no locks
            remove(identity, None)


def new_identity() -> str:
    """A name for a server of this process that no other has."""
    return f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def _claim(identity: str) -> tuple[Path, tuple[int, ...]]:
    """Make folder and lock file of a server and lock them; the descriptors hold the locks."""
    folder = Path(tempfile.gettempdir()) / identity.replace(PREFIX, FOLDER_PREFIX)
    lock = _lock_file(identity)
    descriptors: list[int] = []
    try:
        folder.mkdir(mode=0o700)
        lock.touch(mode=0o600, exist_ok=False)
        for path in (folder, lock):
            descriptors.append(os.open(path, os.O_RDONLY))
            fcntl.flock(descriptors[-1], fcntl.LOCK_EX)
        if not (folder.exists() and lock.exists()):  # in the moment before they were locked
            raise FileNotFoundError("another server, starting too, took them for abandoned; start this one again")
    except BaseException:
        remove(identity, folder)
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return folder, tuple(descriptors)


def _lock_file(identity: str) -> Path:
    return SHARED_MEMORY / f"{identity}.lock"


def _identities() -> set[tuple[str, int]]:
    """The identities that something in shared memory is named after, with the process ids in them."""
    names = (_IDENTITY.match(path.name) for path in SHARED_MEMORY.glob(f"{PREFIX}*"))
    return {(name[0], int(name[1])) for name in names if name is not None}


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody holds its lock; until the end of the block nobody else can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # another user's, or gone meanwhile
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _exists(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
