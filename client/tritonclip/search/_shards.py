"""WebDataset's shards as sources of an index: their images, with captions and what else is said of them."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tritonclip._image_files import is_image_name, too_large
from tritonclip._webdataset import UNREADABLE, Sample, samples
from tritonclip.search._items import Item, full_path, moment
from tritonclip.search._tables import clean_metadata

NANOSECONDS = 1_000_000_000


def shard_items(path: Path) -> Iterator[Item]:
    """A shard's images, in its order, with .txt as caption and .json as metadata.

    What cannot be read is one image that fails, and the rest of its shard.
    """
    try:
        with tarfile.open(path) as tar:
            for sample in samples(tar):
                yield from _items(path, sample)
    except UNREADABLE as exc:
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        yield Item.failing(full_path(path), f"the rest of the shard cannot be read: {reason}")


def count_shard(path: Path) -> int:
    """How many images it has, as far as it can be read."""
    try:
        with tarfile.open(path) as tar:
            return sum(is_image_name(member.name) for member in tar)
    except UNREADABLE:
        return 0


def _items(shard: Path, sample: Sample) -> Iterator[Item]:
    caption, metadata = sample.caption(), clean_metadata(sample.document())
    for member in sample.images():
        uri = f"{full_path(shard)}#{member.name}"
        if member.content is None:
            yield Item.failing(uri, too_large(member.size), caption, metadata)
        else:
            time = moment(int(member.mtime * NANOSECONDS))
            yield Item(uri, _holding(member.content), member.size, time, caption, metadata)


def _holding(content: bytes) -> Callable[[], bytes]:
    return lambda: content
