"""What both kinds of index do: whatever needs no server at once, whatever needs one as an operation of a client."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tritonclip._core.effects import Operation, Work
from tritonclip._core.modality import ImageInput
from tritonclip._core.session import Session
from tritonclip._errors import ClosedError, ConfigError, InputError
from tritonclip._operations.status import known_manifest
from tritonclip.search import _ann, _export
from tritonclip.search._add import AddReport, add
from tritonclip.search._build import BuildReport, build
from tritonclip.search._filter import checked
from tritonclip.search._items import full_path
from tritonclip.search._lock import writing
from tritonclip.search._near_duplicates import groups
from tritonclip.search._query import Weights, check_vector, embed_query
from tritonclip.search._results import Hit, IndexInfo, SearchResults
from tritonclip.search._schema import Identity, Precision, row_id
from tritonclip.search._searcher import TOP_K_MOST, Searcher, hits_of
from tritonclip.search._snapshot import Snapshot
from tritonclip.search._store import Store, connect, ids_condition

Names = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class IndexCore:
    """An open index without a client."""

    def __init__(self, store: Store, exact_rows: int) -> None:
        self._store: Store | None = store
        self._searcher = Searcher(store, exact_rows)

    @property
    def store(self) -> Store:
        """Its tables; ClosedError where it was closed."""
        if self._store is None:
            raise ClosedError("the index was closed")
        return self._store

    @property
    def identity(self) -> Identity:
        """What made its vectors."""
        return self.store.identity

    def close(self) -> None:
        """Let go of what is in memory."""
        self._store = None

    def add(self, session: Session, names: Names, *, asynchronous: bool, **options: bool) -> Operation[AddReport]:
        """Bring the index up to date with what the names stand for."""
        report = yield from add(session, self.store, _listed(names), asynchronous=asynchronous, **options)
        yield Work(self._searcher.refresh)
        return report

    def search(
        self,
        session: Session,
        text: str | None,
        image: ImageInput | None,
        minus: str | Sequence[str],
        weights: Weights,
        on_truncation: str,
        **options: Any,
    ) -> Operation[SearchResults]:
        """Embed a query and look for its neighbours."""
        self.identity.check((yield from known_manifest(session)), self.store.uri)
        less = [minus] if isinstance(minus, str) else list(minus)
        vector = yield from embed_query(session, text, image, less, weights, on_truncation)
        found: SearchResults = yield Work(partial(self.search_vector, vector, **options))
        return found

    def search_vector(
        self, vector: object, *, top_k: int, where: str | None = None, exact: bool | None = None
    ) -> SearchResults:
        """The neighbours of one vector [D] of any length but 0."""
        query = check_vector(vector, self.identity.width)
        return self._searcher.search(query, top_k, where, exact)

    def search_vectors(self, vectors: npt.ArrayLike, *, top_k: int, where: str | None = None) -> list[SearchResults]:
        """The neighbours of many vectors [Q, D], exactly, by one product."""
        queries = [check_vector(vector, self.identity.width) for vector in np.asarray(vectors)]
        if not queries:
            return []
        snapshot = self._fresh()
        rows = None if where is None else snapshot.matching(self.store, where)
        found = snapshot.best(np.stack(queries), top_k, rows)
        return [SearchResults(hits_of(snapshot, *each), exact=True, rows=len(snapshot.row_ids)) for each in found]

    def like(self, id_: str, *, top_k: int, where: str | None = None) -> SearchResults:
        """The neighbours of a row, itself left out."""
        vector = self._searcher.row(id_, ["vector"])["vector"]
        found = self.search_vector(vector, top_k=min(top_k + 1, TOP_K_MOST), where=where)
        others = tuple(hit for hit in found.hits if hit.id != id_)[:top_k]
        return SearchResults(others, found.exact, found.rows)

    def thumbnail(self, id_: str) -> bytes | None:
        """A row's JPEG."""
        thumbnail: bytes | None = self._searcher.row(id_, ["thumbnail"])["thumbnail"]
        return thumbnail

    def sample(self, count: int) -> list[Hit]:
        """Some rows, from all over the index."""
        self.store  # noqa: B018 - ClosedError
        return self._searcher.sample(count)

    def near_duplicates(self, threshold: float) -> list[list[Hit]]:
        """Groups of rows, each with its cosine with the first of its group."""
        snapshot = self._fresh()
        found = groups(snapshot.vectors, threshold)
        return [list(hits_of(snapshot, group, snapshot.vectors[group] @ snapshot.vectors[group[0]])) for group in found]

    def info(self) -> IndexInfo:
        """What it is and how large."""
        table, identity = self.store.latest(), self.identity
        return IndexInfo(
            uri=self.store.uri,
            rows=table.count_rows(),
            width=identity.width,
            precision=identity.precision,
            variant=identity.variant,
            fingerprint=identity.fingerprint,
            thumbnails=identity.thumbnails,
            columns=tuple(self.store.columns),
            bytes=table.stats()["total_bytes"],
            errors=self.store.errors().num_rows,
            ann=_ann.kind_of(table),
            unindexed_rows=_ann.unindexed_rows(table),
            version=table.version,
        )

    def errors(self) -> pa.Table:
        """Images that are not in the index: id, uri, reason, time."""
        return self.store.errors()

    def remove(self, uris: Names, where: str | None) -> int:
        """Drop rows by uri (a path may be relative), or by a condition."""
        names = _listed(uris)
        if bool(names) == (where is not None):
            raise ConfigError("name the rows to remove, or give a condition")
        with writing(self.store.database, self.store.uri) as renew:
            condition = checked(where) if where is not None else ids_condition([row_id(_full(name)) for name in names])
            ids = self.store.find(condition, ["id", "uri"])
            missing = {_full(name) for name in names} - set(ids["uri"].to_pylist())
            if missing:
                raise InputError(f"not in the index: {', '.join(sorted(missing))}", noun="uri")
            renew()
            self.store.delete(ids["id"].to_pylist())
        self._searcher.refresh()
        return int(ids.num_rows)

    def build(self) -> BuildReport:
        """Make the store's ANN index, and measure it."""
        with writing(self.store.database, self.store.uri):
            report = build(self.store)
        self._searcher.refresh()
        return report

    def compact(self) -> None:
        """Merge small files and drop old versions."""
        with writing(self.store.database, self.store.uri):
            self.store.compact()
        self._searcher.refresh()

    def refresh(self) -> bool:
        """Look for new rows now."""
        self.store  # noqa: B018 - ClosedError
        return self._searcher.refresh()

    def export_parquet(self, path: str | os.PathLike[str]) -> int:
        """One Parquet file."""
        return _export.to_parquet(self.store, path)

    def export_npy(self, path: str | os.PathLike[str]) -> int:
        """One array."""
        return _export.to_npy(self.store, path)

    def _fresh(self) -> Snapshot:
        self.store  # noqa: B018 - ClosedError
        self._searcher.look()
        return self._searcher.snapshot()


def create_operation(session: Session, uri: str, precision: Precision, *, thumbnails: bool) -> Operation[Store]:
    """A new index for the server's model."""
    manifest = yield from known_manifest(session)
    identity = Identity.of(manifest, precision, thumbnails=thumbnails)
    store: Store = yield Work(partial(_create, uri, identity))
    return store


def _create(uri: str, identity: Identity) -> Store:
    with writing(connect(uri), uri):
        return Store.create(uri, identity)


def _listed(names: Names) -> list[str]:
    """One name alone is a list of one."""
    return [os.fspath(names)] if isinstance(names, str | os.PathLike) else [os.fspath(name) for name in names]


def _full(name: str) -> str:
    """A row's uri, as a path that may be relative."""
    return name if "://" in name else full_path(name)
