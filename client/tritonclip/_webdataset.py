"""WebDataset's shards: tar files in which members of one name are one sample.

    000.jpg, 000.txt, 000.json, 001.jpg, …  ──> a sample 000 (an image, its caption, what else is said of it), 001, …

Members of a sample follow each other.
"""

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from tritonclip._image_files import MOST_BYTES, is_image_name
from tritonclip._text_files import as_text

UNREADABLE: Final = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged archive raises; ValueError for numbers that are none."""


@dataclass(frozen=True)
class Member:
    """A file of a sample; of one that is too large there is no content."""

    name: str
    mtime: float
    size: int
    content: bytes | None


@dataclass(frozen=True)
class Sample:
    """Members of one key: their path up to the first dot of the file's name."""

    key: str
    members: list[Member] = field(default_factory=list)

    def images(self) -> Iterator[Member]:
        """Those that are images, by their names' endings."""
        return (member for member in self.members if is_image_name(member.name))

    def document(self) -> dict[str, Any]:
        """What its .json says; nothing where there is none, or none that can be read."""
        content = self._content(".json")
        try:
            document = json.loads(content) if content is not None else None
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def caption(self) -> str | None:
        """What its .txt says, else the entry ``caption`` of its .json."""
        if (content := self._content(".txt")) is not None:
            return content.decode(errors="replace").strip()
        caption = self.document().get("caption")
        return as_text(caption) if isinstance(caption, str) else None

    def _content(self, ending: str) -> bytes | None:
        found = [member.content for member in self.members if member.name.lower().endswith(ending)]
        return next((content for content in reversed(found) if content is not None), None)


def samples(tar: tarfile.TarFile) -> Iterator[Sample]:
    """An archive's samples in its order.

    One of UNREADABLE says that the rest cannot be read; what could be is given before.
    """
    sample = Sample("")
    try:
        for member in tar:
            if not member.isfile() or not _is_wanted(member.name):
                continue
            key = _key(member.name)
            if key != sample.key:
                if sample.members:
                    yield sample
                sample = Sample(key)
            sample.members.append(_read(tar, member))
        _check_end(tar)
    except UNREADABLE:
        if sample.members:
            yield sample
        raise
    if sample.members:
        yield sample


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _is_wanted(name: str) -> bool:
    return is_image_name(name) or name.lower().endswith((".txt", ".json"))


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    file = tar.extractfile(member) if member.size <= MOST_BYTES else None
    return Member(member.name, member.mtime, member.size, file.read() if file is not None else None)


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise ReadError where what follows the last member is not the mark of an end: tarfile takes anything for one."""
    if tar.fileobj is None:
        return
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is cut off or damaged at byte {tar.offset:,}")
