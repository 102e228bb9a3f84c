"""Folders and files by name, here or in an object store: pyarrow's file systems, and fsspec's for what those lack."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import pyarrow as pa
from pyarrow import fs

from tritonclip._errors import ConfigError
from tritonclip.bulk._errors import first_line, storing

UNFINISHED: Final = ".unfinished"
_WITHOUT_FOLDERS: Final = ("s3", "gcs", "abfs")
_OF_PYARROW: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")


@dataclass(frozen=True)
class Found:
    """A file below a place: its path from there, and how to tell whether it has changed."""

    path: str
    size: int
    modified: int | None  # nanoseconds since 1970


@dataclass(frozen=True)
class Place:
    """A folder or a file; what is done with it raises OSError."""

    filesystem: Any
    path: str
    scheme: str = ""

    @classmethod
    def of(cls, name: str) -> Self:
        """What a path or a URI names; ConfigError where it is none that this machine can reach."""
        scheme, colon, _ = name.partition("://")
        if not colon:
            return cls(fs.LocalFileSystem(), os.path.abspath(name))
        try:
            if scheme in _OF_PYARROW:
                filesystem, path = fs.FileSystem.from_uri(name)
            else:
                import fsspec

                inner, path = fsspec.url_to_fs(name)
                filesystem = fs.PyFileSystem(fs.FSSpecHandler(inner))
        except (ImportError, OSError, ValueError, pa.ArrowException) as exc:
            raise ConfigError(f"{name}: {first_line(exc)}") from exc
        return cls(filesystem, path.rstrip("/"), scheme)

    @property
    def uri(self) -> str:
        """Its name, the same however it was written."""
        return f"{self.scheme}://{self.path}" if self.scheme else self.path

    def below(self, path: str) -> "Place":
        """What lies at a path from here."""
        return Place(self.filesystem, f"{self.path.rstrip('/')}/{path}", self.scheme)

    def contains(self, other: "Place") -> bool:
        """Whether the other one is here, or the same."""
        return f"{other.uri}/".startswith(f"{self.uri.rstrip('/')}/")

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self._type() == fs.FileType.File)

    def exists(self) -> bool:
        """Whether it is anything; in an object store a folder is one by what is below it."""
        return bool(self._type() != fs.FileType.NotFound)

    def _type(self) -> Any:
        return self.filesystem.get_file_info(self.path).type

    def files(self) -> list[Found]:
        """Every file below it, in the order of their paths; none where there is no such folder."""
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        start = len(self.path.rstrip("/")) + 1
        infos = [info for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]
        return sorted(
            (Found(info.path[start:], info.size, info.mtime_ns) for info in infos), key=lambda each: each.path
        )

    def found(self) -> Found:
        """This file."""
        info = self.filesystem.get_file_info(self.path)
        return Found(info.base_name, info.size, info.mtime_ns)

    def read(self) -> bytes:
        """A whole file."""
        with self.filesystem.open_input_stream(self.path) as stream:
            content: bytes = stream.read()
            return content

    def delete(self) -> None:
        """Have no such file."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)


@contextmanager
def written(place: Place) -> Iterator[Any]:
    """A stream to a file that is written beside its place and then renamed: it is there whole or not at all.

    OutputError says that it could not be written. Names with a leading underscore or dot are nobody's data.
    """
    folder, _, name = place.path.rpartition("/")
    unfinished = Place(place.filesystem, f"{folder}/_{name}.{uuid.uuid4().hex}{UNFINISHED}", place.scheme)
    doing = f"{place.uri}: cannot be written"
    try:
        with storing(doing):
            if place.filesystem.type_name not in _WITHOUT_FOLDERS:
                place.filesystem.create_dir(folder, recursive=True)
            stream = place.filesystem.open_output_stream(unfinished.path)
        try:
            yield stream
        finally:
            with storing(doing):
                stream.close()
        with storing(doing):
            place.filesystem.move(unfinished.path, place.path)
    except BaseException:
        with suppress(OSError, pa.ArrowException):
            unfinished.delete()
        raise


def write(place: Place, content: bytes) -> None:
    """Write a small file whole, or raise OutputError."""
    with written(place) as stream, storing(f"{place.uri}: cannot be written"):
        stream.write(content)
