"""API keys: a file of salted hashes, and the ring that requests are checked against.

A key reads `tclip-<id>-<secret>`. The file has the id, a salt and the hash of salt and secret, so that reading it
opens nothing. Secrets are 256 random bits: there is nothing to guess from, so a fast hash does, and each request can
afford it. The file is replaced as a whole, never written in place, and the ring notices by its inode and times.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger("gateway")

PREFIX = "tclip"


class KeyFileError(Exception):
    """A key file that cannot be read."""


@dataclass(frozen=True)
class Key:
    """One key as it is stored; None for a limit means that there is none."""

    id: str
    name: str
    salt: str
    digest: str
    created: str
    requests_per_minute: int | None = None
    images_per_minute: int | None = None

    def opens_with(self, secret: str) -> bool:
        """Whether this is the key's secret, told in constant time."""
        return hmac.compare_digest(self.digest, _digest(self.salt, secret))


# Stands in for ids that do not exist, so that they take as long to refuse as wrong secrets.
_NOBODY = Key("", "", "00" * 16, "0" * 64, "")


class KeyFile:
    """The file of keys, for those who make and revoke them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Key]:
        """All keys by id; none where there is no file."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            keys = [Key(**entry) for entry in document["keys"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyFileError(f"{self.path} is no readable key file: {error}") from error
        return {key.id: key for key in keys}

    def create(
        self, name: str, *, requests_per_minute: int | None = None, images_per_minute: int | None = None
    ) -> tuple[Key, str]:
        """Add a key; returns it and what its holder sends, which is stored nowhere."""
        secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
        key = Key(
            id=secrets.token_hex(4),
            name=name,
            salt=salt,
            digest=_digest(salt, secret),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            requests_per_minute=requests_per_minute,
            images_per_minute=images_per_minute,
        )
        with self._locked():
            self._write(self.read() | {key.id: key})
        return key, f"{PREFIX}-{key.id}-{secret}"

    def revoke(self, key_id: str) -> bool:
        """Remove a key; False where there is none of this id."""
        with self._locked():
            keys = self.read()
            found = keys.pop(key_id, None) is not None
            if found:
                self._write(keys)
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other commands off the file between reading and writing. The key file itself is replaced, so not it."""
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, keys: dict[str, Key]) -> None:
        text = json.dumps({"keys": [asdict(key) for key in keys.values()]}, indent=2) + "\n"
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)  # for its owner alone
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(self.path)


class KeyRing:
    """The keys in force: those of the file as it is now."""

    def __init__(self, path: Path) -> None:
        self._file = KeyFile(path)
        self._seen = self._state()
        self._keys = self._file.read()

    def find(self, presented: str) -> Key | None:
        """The key that a caller presents, or None where it opens nothing."""
        self._reload()
        prefix, _, rest = presented.partition("-")
        key_id, _, secret = rest.partition("-")
        key = self._keys.get(key_id, _NOBODY)
        return key if key.opens_with(secret) and prefix == PREFIX else None

    def _reload(self) -> None:
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self._keys = self._file.read()
        except KeyFileError as error:  # an editor's slip must not lock everyone out, nor let a revoked key back in
            log.error("%s; the keys read before stay in force", error)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
