"""WebDataset's shards: tar files in which members of one name are one sample."""

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from tritonclip._image_files import is_image_name
from tritonclip.search._items import Item, Value, moment
from tritonclip.search._tables import clean_metadata

NANOSECONDS = 1_000_000_000


def shard_items(path: Path) -> Iterator[Item]:
    """A shard's images, in its order, with .txt as caption and .json as metadata.

    Members of a sample follow each other. What cannot be read is one image that fails, and the rest of its shard.
    """
    sample: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    key: str | None = None
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                folder, name = str(PurePosixPath(member.name).parent), PurePosixPath(member.name).name
                own_key = f"{folder}/{name.partition('.')[0]}"
                if own_key != key:
                    yield from _items(path, sample)
                    key, sample = own_key, {}
                sample[member.name] = (member, file.read())
        yield from _items(path, sample)
    except (tarfile.TarError, OSError, EOFError) as exc:
        yield from _items(path, sample)
        yield Item(str(path.absolute()), _failing(f"the rest of the shard cannot be read: {exc}"))


def count_shard(path: Path) -> int:
    """How many images it has, as far as it can be read."""
    try:
        with tarfile.open(path) as tar:
            return sum(is_image_name(member.name) for member in tar)
    except (tarfile.TarError, OSError, EOFError):
        return 0


def _items(shard: Path, sample: dict[str, tuple[tarfile.TarInfo, bytes]]) -> Iterator[Item]:
    caption: str | None = None
    metadata: dict[str, Value] = {}
    for name, (_, content) in sample.items():
        if name.lower().endswith(".txt"):
            caption = content.decode(errors="replace").strip()
        elif name.lower().endswith(".json"):
            metadata = _metadata(content)
    if caption is None and isinstance(metadata.get("caption"), str):
        caption = str(metadata["caption"])
    own = {name: value for name, value in metadata.items() if name != "caption"}
    for name, (member, content) in sample.items():
        if is_image_name(name):
            time = moment(int(member.mtime * NANOSECONDS))
            yield Item(f"{shard.absolute()}#{name}", _holding(content), len(content), time, caption, own)


def _metadata(content: bytes) -> dict[str, Value]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    caption = {"caption": document["caption"]} if isinstance(document.get("caption"), str) else {}
    return clean_metadata(document) | caption


def _holding(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _failing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise OSError(reason)

    return read
