"""What an input consists of: shards, each of which becomes one Parquet file.

    folder of .tar            WebDataset: each archive is a shard
    folder of .parquet        tables with the images in a column: each file is a shard
    folder of images          cut into parts of about FILES_A_PART by a digest of the path: a file stays in its part
    folder of .txt            for texts: a text on each line; each file is a shard
    one such file             one shard

Hidden files, and those whose names begin with an underscore, are left out, as other readers of data sets do.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from tritonclip._errors import ConfigError
from tritonclip._image_files import is_image_name
from tritonclip.bulk._errors import first_line
from tritonclip.bulk._places import Found, Place

Kind = Literal["tar", "parquet", "lines", "files"]
Modality = Literal["image", "text"]

FILES_A_PART: Final = 10_000
_ENDINGS: Final[Mapping[str, Kind]] = {".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".parquet": "parquet"}
_OF_TEXTS: Final[Mapping[str, Kind]] = {**_ENDINGS, ".txt": "lines"}


@dataclass(frozen=True)
class Shard:
    """A part of the input: what of it is read at once, and written as one file.

    ``name`` is that of its files in the output, with folders and without ending. ``identity`` changes with its content.
    ``files`` has the paths of what is no archive, from ``uri``.
    """

    name: str
    kind: Kind
    uri: str
    identity: Mapping[str, str | int]
    files: tuple[str, ...] = ()


def find_shards(place: Place, modality: Modality, parts: int | None) -> list[Shard]:
    """An input's shards in the order of their names; ``parts`` says into how many a folder of images is cut.

    ConfigError says that it cannot be read, or that there is nothing in it that could be embedded.
    """
    try:
        return _find(place, modality, parts)
    except (OSError, pa.ArrowException) as exc:
        raise ConfigError(f"{place.uri}: cannot be read: {first_line(exc)}") from exc


def _find(place: Place, modality: Modality, parts: int | None) -> list[Shard]:
    endings = _OF_TEXTS if modality == "text" else _ENDINGS
    if not place.exists():
        raise ConfigError(f"{place.uri}: no such file or folder")
    if place.is_file():
        found = place.found()
        if (kind := _kind(found.path, endings)) is None:
            raise ConfigError(f"{place.uri}: expected a folder, or a file that ends in {', '.join(endings)}")
        return [_archive(place, found, kind, endings)]
    files = [found for found in place.files() if not _is_hidden(found.path)]
    kinds: tuple[Kind, ...] = ("tar", "parquet", "lines")  # img2dataset writes a table of metadata beside each archive
    for kind in kinds:
        if own := [found for found in files if _kind(found.path, endings) == kind]:
            return _distinct([_archive(place.below(found.path), found, kind, endings) for found in own])
    images = [found for found in files if is_image_name(found.path)] if modality == "image" else []
    if not images:
        raise ConfigError(f"{place.uri}: there is nothing to embed in it: no {', '.join(endings)}" + _OR[modality])
    return _parts(place, images, parts or -(-len(images) // FILES_A_PART))


_OR: Final = {"image": " and no image", "text": ""}


def _kind(path: str, endings: Mapping[str, Kind]) -> Kind | None:
    return next((kind for ending, kind in endings.items() if path.lower().endswith(ending)), None)


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _archive(place: Place, found: Found, kind: Kind, endings: Mapping[str, Kind]) -> Shard:
    ending = next(ending for ending in endings if found.path.lower().endswith(ending))
    identity = {"bytes": found.size, "modified": found.modified or 0}
    return Shard(found.path[: -len(ending)], kind, place.uri, identity)


def _distinct(shards: list[Shard]) -> list[Shard]:
    by_name: dict[str, Shard] = {}
    for shard in shards:
        if shard.name in by_name:
            raise ConfigError(f"{by_name[shard.name].uri} and {shard.uri} would be written to the same file")
        by_name[shard.name] = shard
    return shards


def _parts(place: Place, images: Sequence[Found], count: int) -> list[Shard]:
    parts: list[list[Found]] = [[] for _ in range(count)]
    for found in images:
        parts[zlib.crc32(found.path.encode(errors="surrogateescape")) % count].append(found)
    return [
        Shard(f"part-{number:05}", "files", place.uri, _digest(part), tuple(found.path for found in part))
        for number, part in enumerate(parts)
    ]


def _digest(files: Sequence[Found]) -> dict[str, str | int]:
    digest = hashlib.sha256()
    for found in files:
        line = f"{found.path}\0{found.size}\0{found.modified}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {"files": len(files), "digest": digest.hexdigest()}
