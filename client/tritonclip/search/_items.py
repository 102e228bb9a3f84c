"""What can be put into an index: an image that is somewhere, and what is said of it beside."""

import datetime
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonclip._image_files import MOST_BYTES, too_large
from tritonclip._text_files import as_text
from tritonclip.protocol.messages import FloatArray
from tritonclip.search._schema import row_id

Value = str | int | float | bool | None
"""Of a metadata column."""


@dataclass
class Item:
    """One image: where it is, how to read it, and how to tell whether it has changed.

    ``byte_count`` and ``mtime`` are None where they cannot be known without reading it. What is not ``readable`` is
    known to fail, and ``read`` says why. With a ``vector`` it was embedded before, and there is nothing to read.
    """

    uri: str
    read: Callable[[], bytes]
    byte_count: int | None = None
    mtime: datetime.datetime | None = None
    caption: str | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)
    readable: bool = True
    vector: FloatArray | None = None

    @property
    def id(self) -> str:
        """The key of its row."""
        return row_id(self.uri)

    @classmethod
    def of_file(
        cls, path: str | os.PathLike[str], caption: str | None = None, metadata: Mapping[str, Value] | None = None
    ) -> "Item":
        """A file; one that cannot be read fails when its turn comes, as one image."""
        name = full_path(path)
        try:
            found = os.stat(name)
        except (OSError, ValueError) as exc:
            return cls.failing(name, getattr(exc, "strerror", None) or str(exc), caption, metadata)
        if reason := _unfit(found):
            return cls.failing(name, reason, caption, metadata)
        time = moment(found.st_mtime_ns)
        return cls(name, lambda: Path(name).read_bytes(), found.st_size, time, caption, metadata or {})

    @classmethod
    def failing(
        cls, uri: str, reason: str, caption: str | None = None, metadata: Mapping[str, Value] | None = None
    ) -> "Item":
        """An image that cannot be had."""

        def read() -> bytes:
            raise OSError(reason)

        return cls(uri, read, None, None, caption, metadata or {}, readable=False)


def full_path(path: str | os.PathLike[str]) -> str:
    """Absolute and without ``..``, so that an image has one uri however it is named; links are kept as they are named.

    What lies before a ``..`` is resolved as the system does it, links included.
    """
    name = os.fspath(path)
    parts = name.split(os.sep)
    if os.pardir not in parts:
        return os.path.abspath(name)
    end = len(parts) - parts[::-1].index(os.pardir)
    return os.path.normpath(os.path.join(os.path.realpath(os.sep.join(parts[:end])), *filter(None, parts[end:])))


def with_name(item: Item) -> Item:
    """The item; one that fails in its place where the index cannot keep its name, which a file system may well have."""
    name = as_text(item.uri)
    return item if name == item.uri else Item.failing(name, "its name is not UTF-8, as a uri has to be")


def moment(nanoseconds: int) -> datetime.datetime | None:
    """A file's time, to the microsecond, as the table keeps it; None for one that no calendar has."""
    try:
        return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None


def _unfit(found: os.stat_result) -> str | None:
    """Why a file is not to be read: a pipe would never end, and a huge one is for nobody."""
    if not stat.S_ISREG(found.st_mode):
        return "Is a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
    if found.st_size > MOST_BYTES:
        return too_large(found.st_size)
    return None
