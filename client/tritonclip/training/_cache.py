"""Vectors on disk by the digest of what they are of, so that nothing is encoded twice.

    DIR/FINGERPRINT.features: a line of JSON (what this is), then records of one size: SHA-256, float32 [D], CRC-32

The file only grows. A record that was not written to its end, or has been damaged, is as if it were not there. Another
model's vectors lie in another file, which is never looked into.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from tritonclip._errors import ConfigError
from tritonclip.protocol.messages import FloatArray

SUFFIX: Final = ".features"
_DIGEST_BYTES, _CHECK_BYTES = 32, 4


def digest_of(content: bytes, kind: str) -> bytes:
    """The key of something of a ``kind`` ("image", "text"): equal bytes of different kinds have different vectors."""
    return hashlib.sha256(kind.encode() + b"\0" + content).digest()


class FeatureCache:
    """The vectors of width D that a model with this fingerprint has given, kept in a folder.

    Raises ConfigError for a file of that name that is none of these. It is written by one process at a time; a second
    one can do no worse than have its records ignored.
    """

    def __init__(self, folder: Path, fingerprint: str, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{fingerprint}{SUFFIX}"
        self.width = width
        self._rows: dict[bytes, FloatArray] = {}
        head = {"tritonclip_features": 1, "fingerprint": fingerprint, "width": width}
        self._file = self.path.open("a+b")
        try:
            self._read(json.dumps(head).encode() + b"\n")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, digests: Iterable[bytes]) -> FloatArray:
        """The vectors [N, D] of these digests, all of which are there."""
        found = [self._rows[digest] for digest in digests]
        return np.stack(found) if found else np.empty((0, self.width), np.float32)

    def add(self, digests: Iterable[bytes], rows: FloatArray) -> None:
        """Keep vectors [N, D]; from here on the death of this process does not lose them."""
        written = bytearray()
        for digest, row in zip(digests, rows, strict=True):
            self._rows[digest] = row
            record = digest + row.astype("<f4").tobytes()
            written += record + zlib.crc32(record).to_bytes(_CHECK_BYTES, "little")
        self._file.write(written)
        self._file.flush()

    def _read(self, head: bytes) -> None:
        self._file.seek(0)
        data = self._file.read()
        if not data.startswith(head):
            if not head.startswith(data):
                raise ConfigError(f"{self.path} does not hold this model's features; it was left as it is")
            self._file.truncate(0)
            self._file.write(head)
            self._file.flush()
            return
        size = _DIGEST_BYTES + 4 * self.width + _CHECK_BYTES
        end = len(head) + (len(data) - len(head)) // size * size
        for record in _records(memoryview(data)[len(head) : end], size):
            self._rows[bytes(record[:_DIGEST_BYTES])] = np.frombuffer(record[_DIGEST_BYTES:-_CHECK_BYTES], "<f4")
        self._file.truncate(end)


def other_models(folder: Path, fingerprint: str) -> list[str]:
    """The fingerprints of other models whose vectors are in this folder."""
    return sorted(path.stem for path in folder.glob(f"*{SUFFIX}") if path.stem != fingerprint)


def _records(data: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, len(data), size):
        record = data[start : start + size]
        if zlib.crc32(record[:-_CHECK_BYTES]) == int.from_bytes(record[-_CHECK_BYTES:], "little"):
            yield record
