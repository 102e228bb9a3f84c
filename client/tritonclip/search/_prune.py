"""Rows of images that are no longer where they were."""

import os
from collections.abc import Iterable, Set

from tritonclip.search._sources import NamedSource, Source
from tritonclip.search._store import Store


def vanished(store: Store, sources: Iterable[NamedSource], seen: Set[str]) -> int:
    """Drop the rows that came from these sources and whose file, or whose place in its file, is gone; how many.

    Sources that were not named are not looked at: a disk that is not there today is no reason to forget its images.
    """
    sources = list(sources)
    tables = [source for source in sources if isinstance(source, Source) and source.holds_members]
    gone = []
    for batch in store.batches(["id", "uri"]):
        for id_, uri in zip(batch["id"].to_pylist(), batch["uri"].to_pylist(), strict=True):
            if id_ in seen or not any(source.holds(uri) for source in sources):
                continue
            inside = any(uri.startswith(f"{source.place}#") for source in tables)
            if inside or not os.path.lexists(uri):
                gone.append(id_)
    if gone:
        store.delete(gone)
    return len(gone)
