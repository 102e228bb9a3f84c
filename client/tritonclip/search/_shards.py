"""WebDataset's shards: tar files in which members of one name are one sample."""

import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tritonclip._image_files import is_image_name
from tritonclip.search._items import MOST_BYTES, Item, Value, as_text, full_path, moment, too_large
from tritonclip.search._tables import clean_metadata

NANOSECONDS = 1_000_000_000
UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged archive raises; ValueError for numbers that are none."""


def shard_items(path: Path) -> Iterator[Item]:
    """A shard's images, in its order, with .txt as caption and .json as metadata.

    Members of a sample follow each other. What cannot be read is one image that fails, and the rest of its shard.
    """
    sample: list[Member] = []
    key: str | None = None
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.isfile() or not _is_wanted(member.name):
                    continue
                own_key = _key(member.name)
                if own_key != key:
                    yield from _items(path, sample)
                    key, sample = own_key, []
                sample.append(_read(tar, member))
            _check_end(tar)
        yield from _items(path, sample)
    except UNREADABLE as exc:
        yield from _items(path, sample)
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        yield Item.failing(full_path(path), f"the rest of the shard cannot be read: {reason}")


def count_shard(path: Path) -> int:
    """How many images it has, as far as it can be read."""
    try:
        with tarfile.open(path) as tar:
            return sum(is_image_name(member.name) for member in tar)
    except UNREADABLE:
        return 0


@dataclass(frozen=True)
class Member:
    """A file of a sample; of one that is too large there is no content."""

    name: str
    mtime: float
    size: int
    content: bytes | None


def _key(name: str) -> str:
    """Of a sample: the path up to the first dot of the file's name."""
    path = PurePosixPath(name)
    return f"{path.parent}/{path.name.partition('.')[0]}"


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


def _items(shard: Path, sample: list[Member]) -> Iterator[Item]:
    caption: str | None = None
    metadata: dict[str, Value] = {}
    for member in sample:
        if member.content is not None and member.name.lower().endswith(".txt"):
            caption = member.content.decode(errors="replace").strip()
        elif member.content is not None and member.name.lower().endswith(".json"):
            metadata = _metadata(member.content)
    if caption is None and isinstance(metadata.get("caption"), str):
        caption = str(metadata["caption"])
    own = {name: value for name, value in metadata.items() if name != "caption"}
    for member in sample:
        if not is_image_name(member.name):
            continue
        uri = f"{full_path(shard)}#{member.name}"
        if member.content is None:
            yield Item.failing(uri, too_large(member.size), caption, own)
        else:
            time = moment(int(member.mtime * NANOSECONDS))
            yield Item(uri, _holding(member.content), member.size, time, caption, own)


def _metadata(content: bytes) -> dict[str, Value]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    caption = {"caption": as_text(document["caption"])} if isinstance(document.get("caption"), str) else {}
    return clean_metadata(document) | caption


def _holding(content: bytes) -> Callable[[], bytes]:
    return lambda: content
