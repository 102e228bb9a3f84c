"""What can be put into an index: an image that is somewhere, and what is said of it beside."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonclip.search._schema import row_id

Value = str | int | float | bool | None
"""Of a metadata column."""


@dataclass
class Item:
    """One image: where it is, how to read it, and how to tell whether it has changed.

    ``byte_count`` and ``mtime`` are None where they cannot be known without reading it.
    """

    uri: str
    read: Callable[[], bytes]
    byte_count: int | None = None
    mtime: datetime.datetime | None = None
    caption: str | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The key of its row."""
        return row_id(self.uri)

    @classmethod
    def of_file(cls, path: Path, caption: str | None = None, metadata: Mapping[str, Value] | None = None) -> "Item":
        """A file; one that is not there fails when it is read, as one image."""
        path = path.absolute()
        try:
            stat = path.stat()
        except (OSError, ValueError):
            return cls(str(path), path.read_bytes, None, None, caption, metadata or {})
        return cls(str(path), path.read_bytes, stat.st_size, moment(stat.st_mtime_ns), caption, metadata or {})


def moment(nanoseconds: int) -> datetime.datetime:
    """A file's time, to the microsecond, as the table keeps it."""
    return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=nanoseconds // 1000)
