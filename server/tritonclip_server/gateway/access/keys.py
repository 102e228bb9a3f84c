"""API keys: a file of salted hashes, and the store that requests are checked against.

A key reads `tclip-<id>-<secret>`. The file has the id, a salt and the hash of salt and secret, so that reading it
opens nothing. Secrets are 256 random bits: there is nothing to guess from, so a fast hash does, and each request can
afford it. The file is replaced as a whole, never written in place, and the store notices by its inode and times.
"""

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

log = logging.getLogger("gateway")

PREFIX = "tclip"
UNREADABLE_SECONDS = 60.0  # how long keys stay in force while nobody can tell whether they still are
MOST_BYTES = 16 * 2**20  # of a key file: some 60,000 keys
MOST_PER_MINUTE = 10**9

Clock = Callable[[], float]
_STRICT = ConfigDict(strict=True, extra="forbid")


State = tuple[int, int, int, int]
"""By which a file is known to be another one, or to have changed: inode, size and times."""


class KeyFileError(Exception):
    """A key file that does not hold what it should; `state` is the one it was found in."""

    def __init__(self, message: str, state: State | None = None) -> None:
        super().__init__(message)
        self.state = state


class KeysUnavailable(Exception):
    """The key file cannot be read, and could not for too long: nobody can tell which keys are in force."""


@dataclass(frozen=True)
class Key:
    """One key as it is stored; None for a limit means that there is none."""

    __pydantic_config__ = _STRICT

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z_]{1,64}$")]
    name: str
    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: str
    requests_per_minute: Annotated[int, Field(ge=1, le=MOST_PER_MINUTE)] | None = None
    images_per_minute: Annotated[int, Field(ge=1, le=MOST_PER_MINUTE)] | None = None
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None  # that it is for, by their ids; None: all

    def opens_with(self, secret: str) -> bool:
        """Whether this is the key's secret, told in constant time."""
        return hmac.compare_digest(self.digest, _digest(self.salt, secret))


@dataclass(frozen=True)
class _Document:
    """The file as JSON."""

    __pydantic_config__ = _STRICT

    keys: list[Key]


_DOCUMENT = TypeAdapter(_Document)

# Stands in for ids that do not exist, so that they take as long to refuse as wrong secrets.
_NOBODY = Key("", "", "00" * 16, "0" * 64, "")


class KeyFile:
    """The file of keys, for those who make and revoke them. A symbolic link stays one: what it leads to is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Key]:
        """All keys by id; none where there is no file. KeyFileError where it holds something else, or OSError."""
        return self.read_with_state()[1]

    def read_with_state(self) -> tuple[State | None, dict[str, Key]]:
        """All keys, and the state that exactly this content had (None: there is no file)."""
        try:
            with self.path.open("rb") as file:
                state = _state_of(os.fstat(file.fileno()))
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None, {}
        return state, self._parse(content, state)

    def state(self) -> State | None:
        """The file's state as it is now; OSError where that cannot be told."""
        try:
            return _state_of(self.path.stat())
        except FileNotFoundError:
            return None

    def create(
        self,
        name: str,
        *,
        requests_per_minute: int | None = None,
        images_per_minute: int | None = None,
        models: Sequence[str] = (),
    ) -> tuple[Key, str]:
        """Add a key, for these models or, where none is given, all; returns it and what its holder sends.

        The latter is stored nowhere.
        """
        for text, what in ((name, "name"), *((model, "model") for model in models)):
            if not text.isprintable():
                raise KeyFileError(f"a key's {what} must be printable, and {text!r} is not")
        secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
        with self._locked():
            keys = self.read()
            key = Key(
                id=_new_id(keys),
                name=name,
                salt=salt,
                digest=_digest(salt, secret),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                requests_per_minute=requests_per_minute,
                images_per_minute=images_per_minute,
                models=tuple(dict.fromkeys(models)) or None,
            )
            self._write(keys | {key.id: key})
        return key, f"{PREFIX}-{key.id}-{secret}"

    def revoke(self, key_id: str) -> bool:
        """Remove a key; False where there is none of this id."""
        with self._locked():
            keys = self.read()
            found = keys.pop(key_id, None) is not None
            if found:
                self._write(keys)
        return found

    def _parse(self, content: bytes, state: State | None = None) -> dict[str, Key]:
        spoilt = f"{self.path} is no readable key file"
        if len(content) > MOST_BYTES:
            raise KeyFileError(f"{spoilt}: larger than {MOST_BYTES} bytes", state)
        try:
            keys = _DOCUMENT.validate_json(content).keys
        except ValidationError as invalid:
            error = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(step) for step in error["loc"])
            raise KeyFileError(f"{spoilt}: {place}{': ' if place else ''}{error['msg']}", state) from None
        by_id = {key.id: key for key in keys}
        if len(by_id) < len(keys):
            raise KeyFileError(f"{spoilt}: several keys have the same id", state)
        return by_id

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other commands off the file between reading and writing. The key file itself is replaced, so not it."""
        target = self._target()
        with target.with_name(target.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, keys: dict[str, Key]) -> None:
        """Replace the file, under the lock. Whoever reads it, even after a power cut, finds the old one or the new one.

        The new one always has the same name before it is the file, so what a killed command left is written over.
        """
        target = self._target()
        new = target.with_name(f".{target.name}.new")
        content = orjson.dumps({"keys": [asdict(key) for key in keys.values()]}, option=orjson.OPT_INDENT_2) + b"\n"
        self._parse(content)  # what is written can be read
        new.unlink(missing_ok=True)
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # for its owner alone
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _target(self) -> Path:
        return self.path.resolve()


class KeyStore:
    """The keys in force: those of the file as it is now.

    A file that cannot be read for a moment is tried again at every request. Meanwhile the keys read before stay in
    force, but not for longer than UNREADABLE_SECONDS: one of them may have been revoked. A file that can be read but is
    spoilt is an editor's slip, which must not lock everyone out: the keys read before stay in force until it is mended.
    A file that is gone has no keys.
    """

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._file = KeyFile(path)
        self._clock = clock
        self._seen, self._keys = self._file.read_with_state()
        self._unreadable_since: float | None = None

    def find(self, presented: str) -> Key | None:
        """The key that a caller presents, or None where it opens nothing; KeysUnavailable where there is no telling."""
        self._reload()
        prefix, _, rest = presented.partition("-")
        key_id, _, secret = rest.partition("-")
        key = self._keys.get(key_id, _NOBODY)
        return key if key.opens_with(secret) and prefix == PREFIX else None

    def _reload(self) -> None:
        try:
            if self._file.state() != self._seen:
                self._seen, self._keys = self._file.read_with_state()
        except KeyFileError as error:
            self._seen = error.state  # it is read again when it changes
            log.error("%s; the keys read before stay in force until it is mended", error)
        except OSError as error:
            self._bear_with(error)
            return
        self._unreadable_since = None

    def _bear_with(self, error: OSError) -> None:
        now = self._clock()
        if self._unreadable_since is None:
            self._unreadable_since = now
        if now - self._unreadable_since <= UNREADABLE_SECONDS:
            log.error("%s; the keys read before stay in force for %g s", error, UNREADABLE_SECONDS)
            return
        log.error("%s; for more than %g s, so every request is refused", error, UNREADABLE_SECONDS)
        raise KeysUnavailable from error


def _state_of(status: os.stat_result) -> State:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _new_id(keys: dict[str, Key]) -> str:
    while (new := secrets.token_hex(4)) in keys:
        pass
    return new


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
