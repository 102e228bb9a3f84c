"""Images by the names that people give: folders, files, globs, URLs, CSV, Parquet, WebDataset's shards, vectors.

    photos/              every image file below it, by its name's ending
    'photos/**/*.jpg'    whatever matches
    list.csv             a column path (or url, uri), relative to the file; caption; the others are metadata
    list.parquet         the same, or a column image with the bytes themselves (Hugging Face's too)
    shard-{000..099}.tar members of one name are one sample: an image, .txt its caption, .json its metadata

    vectors/             an output of `tritonclip embed-dataset`, also in an object store: rows that have their vectors

Nothing is read before its turn comes, save lists.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonclip._errors import ConfigError
from tritonclip._fetch import Remote
from tritonclip._image_files import is_image_name
from tritonclip.search._items import Item, full_path
from tritonclip.search._shards import count_shard, shard_items
from tritonclip.search._tables import count_table, table_items
from tritonclip.search._vectors import VectorSource

TABLES = frozenset((".csv", ".tsv", ".parquet"))
SHARD = ".tar"
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Source:
    """One thing that was named: a folder, a file, a table or a shard."""

    path: Path

    @property
    def place(self) -> str:
        """What the uris of its images begin with."""
        return full_path(self.path)

    @property
    def holds_members(self) -> bool:
        """Whether it is one file with many images in it, or a list of them."""
        return self.path.suffix.lower() in TABLES | {SHARD} and not self.path.is_dir()

    def count(self) -> int:
        """How many images it has, for show: of a CSV the lines."""
        if self.path.is_dir():
            return sum(1 for _ in _below(self.path))
        if not self.holds_members:
            return 1
        return count_shard(self.path) if self.path.suffix.lower() == SHARD else count_table(self.path)

    def items(self) -> Iterator[Item]:
        """Its images, in the order of their names or of the table."""
        if self.path.is_dir():
            yield from _below(self.path)
        elif not self.holds_members:
            yield Item.of_file(self.path)
        elif self.path.suffix.lower() == SHARD:
            yield from shard_items(self.path)
        else:
            yield from table_items(self.path)

    def holds(self, uri: str) -> bool:
        """Whether a row of this uri can have come from here."""
        return uri == self.place or uri.startswith((f"{self.place}#", self.place.rstrip(os.sep) + os.sep))


@dataclass(frozen=True)
class UrlSource:
    """An image at a URL."""

    url: str

    def count(self) -> int:
        """One."""
        return 1

    def items(self) -> Iterator[Item]:
        """The one."""
        yield Item(self.url, Remote(self.url).read)

    def holds(self, uri: str) -> bool:  # noqa: ARG002 - nobody knows whether it is still there without asking
        """Never: what lies elsewhere is not looked for."""
        return False


NamedSource = Source | UrlSource | VectorSource


def find_sources(names: Iterable[str | os.PathLike[str]]) -> list[NamedSource]:
    """What the names stand for; ConfigError where nothing is there."""
    found: list[NamedSource] = []
    for name in (os.fspath(each) for each in names):
        if name.lower().startswith(("http://", "https://")):
            found.append(UrlSource(name))
        elif vectors := VectorSource.find(name):
            found.append(vectors)
        else:
            found += (Source(Path(path)) for path in _paths(name))
    return found


def _paths(name: str) -> list[str]:
    if os.path.lexists(name):
        return [name]
    if match := _BRACES.search(name):  # as WebDataset writes its shards
        first, last = match[1], match[2]
        numbers = range(int(first), int(last) + 1)
        return [path for number in numbers for path in _paths(_BRACES.sub(f"{number:0{len(first)}}", name, count=1))]
    paths = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
    if not paths:
        raise ConfigError(f"{name}: no file matches" if glob.has_magic(name) else f"{name}: no such file or folder")
    return paths


def _below(folder: Path) -> Iterator[Item]:
    """Image files in a folder and below it, in order; what is hidden is left out.

    A folder that cannot be listed is one image that fails.
    """
    unlisted: list[OSError] = []
    for place, folders, names in os.walk(full_path(folder), onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _failed(unlisted)
        yield from (Item.of_file(os.path.join(place, name)) for name in sorted(names) if is_image_name(name))
    yield from _failed(unlisted)


def _failed(unlisted: list[OSError]) -> Iterator[Item]:
    while unlisted:
        error = unlisted.pop()
        yield Item.failing(str(error.filename), f"the folder cannot be listed: {error.strerror}")
