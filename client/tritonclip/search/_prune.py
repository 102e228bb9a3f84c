"""Rows of images that are no longer where they were, and errors of what has been mended."""

import os
import re
from collections.abc import Iterable, Iterator, Set

import pyarrow as pa

from tritonclip.search._schema import row_id
from tritonclip.search._sources import NamedSource, Source
from tritonclip.search._store import Store

_MEMBER = re.compile(r"(.+?\.(?:csv|tsv|parquet|tar))#", re.IGNORECASE | re.DOTALL)


def vanished(store: Store, sources: Iterable[NamedSource], seen: Set[str], unreadable: Set[str]) -> int:
    """Drop the rows that came from these sources and whose file, or whose place in its file, is gone; how many.

    ``seen`` are the ids of all images that the sources have, ``unreadable`` those of them that cannot be had. Sources
    that were not named are not looked at, and what cannot be looked into is not gone: a disk that is not there today
    is no reason to forget its images. Errors of images that are gone are dropped, too.
    """
    named = [source for source in sources if isinstance(source, Source)]
    whole = {source.place for source in named if source.holds_members and row_id(source.place) not in unreadable}
    rows = [
        id_
        for id_, uri in _keys(store.batches(["id", "uri"]))
        if (id_ in unreadable if id_ in seen else _held(named, uri)) and _is_gone(uri, whole)
    ]
    store.delete(rows)
    errors = _keys(store.errors().to_batches())
    store.forget_errors([id_ for id_, uri in errors if id_ not in seen and _held(named, uri) and _is_gone(uri, whole)])
    return len(rows)


def mended(store: Store, sources: Iterable[NamedSource], seen: Set[str]) -> list[str]:
    """The ids of errors of folders and shards that could be read whole this time: no image stands for them any more."""
    named = [source for source in sources if isinstance(source, Source)]
    places = {source.place for source in named}
    return [
        id_
        for id_, uri in _keys(store.errors().to_batches())
        if id_ not in seen and (uri in places or (_held(named, uri) and os.path.isdir(uri)))
    ]


def _keys(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
    for batch in batches:
        yield from zip(batch["id"].to_pylist(), batch["uri"].to_pylist(), strict=True)


def _held(sources: Iterable[Source], uri: str) -> bool:
    return any(source.holds(uri) for source in sources)


def _is_gone(uri: str, whole: Set[str]) -> bool:
    """``whole`` are the shards and tables that were read to their ends: what was not seen is not in them."""
    if "://" in uri or _exists(uri):
        return False
    member = _MEMBER.match(uri)
    return member is None or member[1] in whole or not _exists(member[1])


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # for all that is known
    return True
