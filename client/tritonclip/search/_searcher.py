"""Searching an index: exactly over memory, or through the store's ANN index where there are too many rows for that.

Queries that come at the same time share one matrix product, which reads the vectors once for all of them. Those with a
filter, which may take long to find its rows, are answered apart and keep nobody waiting.
"""

import string
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tritonclip._errors import InputError
from tritonclip.protocol.messages import FloatArray
from tritonclip.search import _ann as ann
from tritonclip.search._errors import storage
from tritonclip.search._results import Hit, SearchResults
from tritonclip.search._schema import ID_BYTES
from tritonclip.search._snapshot import Snapshot, load
from tritonclip.search._store import Store, ids_condition
from tritonclip.search._top import IntArray

EXACT_ROWS = 1_000_000  # over which an ANN index answers, where there is one; at a width of 640 that is 2.6 GB
LOOK_SECONDS = 1.0  # between two looks for new rows
QUERIES_AT_ONCE = 64
TOP_K_MOST = 10_000


@dataclass(eq=False)
class _Asked:
    query: FloatArray
    top_k: int
    hits: tuple[Hit, ...] = ()
    rows: int = 0
    error: Exception | None = None
    done: bool = False


class Searcher:
    """Answers queries of unit vectors [D]. Threads may share it."""

    def __init__(self, store: Store, exact_rows: int) -> None:
        self._store = store
        self._exact_rows = exact_rows
        self._turn = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._looked = 0.0
        self._table = store.latest()
        self._rows: int = self._table.count_rows()
        self._snapshot: Snapshot | None = None

    def search(self, query: FloatArray, top_k: int, where: str | None, exact: bool | None) -> SearchResults:
        """The nearest rows; InputError for a filter that cannot be used."""
        if not isinstance(top_k, int) or not 1 <= top_k <= TOP_K_MOST:
            raise InputError(f"must be from 1 to {TOP_K_MOST}, not {top_k!r}", noun="top_k")
        self.look()
        if exact is False or (exact is None and self._rows > self._exact_rows):
            table, rows = self._table, self._rows
            if ann.exists(table):
                return SearchResults(self._ann_hits(table, query, top_k, where), exact=False, rows=rows)
        if where is not None:
            return self._filtered(query, top_k, where)
        asked = _Asked(query, top_k)
        self._waiting.append(asked)
        with self._turn:
            while not asked.done:
                self._answer_waiting()
        if asked.error is not None:
            raise asked.error
        return SearchResults(asked.hits, exact=True, rows=asked.rows)

    def refresh(self) -> bool:
        """Look for new rows now; whether anything has changed."""
        with self._turn:
            self._looked = time.monotonic()
            if self._store.version == self._table.version:
                return False
            self._table = self._store.latest()
            self._rows = self._table.count_rows()
            if self._snapshot is not None:
                self._snapshot = load(self._store, self._snapshot)
            return True

    def look(self) -> None:
        """Look for new rows, unless that was done a moment ago."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.refresh()

    def snapshot(self) -> Snapshot:
        """All rows in memory; read the first time."""
        with self._turn:
            return self._in_memory()

    def row(self, id_: str, columns: Sequence[str]) -> dict[str, Any]:
        """Columns of the row with this id; InputError where there is none."""
        if len(id_) != 2 * ID_BYTES or not set(id_) <= set(string.hexdigits.lower()):
            raise InputError(f"{id_!r} is no id of a row", noun="id")
        self.look()
        rows = self._found(id_, columns)
        if not rows:
            raise InputError(f"the index has no row {id_}", noun="id")
        row: dict[str, Any] = rows[0]
        return row

    def sample(self, count: int) -> list[Hit]:
        """Some rows, from all over the index; from the store, for there may be more than fit in memory."""
        self.look()
        table = self._table
        positions = np.unique(np.linspace(0, max(0, self._rows - 1), min(count, self._rows)).astype(np.int64))
        if not len(positions):
            return []
        with storage(f"{self._store.uri}: cannot be read"):
            rows = table.take_offsets(positions.tolist()).select(self._store.columns).to_arrow().to_pylist()
        return [_hit(row, 0.0) for row in rows]

    def _found(self, id_: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The row with this id, or none: by its place where all ids are in memory, for the store looks at each."""
        snapshot = self._snapshot
        if snapshot is None:
            table = self._store.find(ids_condition([id_]), columns, self._table)
        elif (position := pc.index(snapshot.columns["id"], id_).as_py()) < 0:
            return []
        else:
            with storage(f"{self._store.uri}: cannot be read"):
                query = snapshot.table.take_row_ids([int(snapshot.row_ids[position])])
                table = query.select(list(columns)).to_arrow()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def _in_memory(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = load(self._store)
        return self._snapshot

    def _answer_waiting(self) -> None:
        """Answer those who have waited longest; others append meanwhile, so they are taken out one by one."""
        self._answer([self._waiting.popleft() for _ in range(min(len(self._waiting), QUERIES_AT_ONCE))])

    def _answer(self, group: list[_Asked]) -> None:
        try:
            snapshot = self._in_memory()
            queries = np.stack([asked.query for asked in group])
            found = snapshot.best(queries, max(asked.top_k for asked in group), None)
            for asked, (positions, scores) in zip(group, found, strict=True):
                asked.hits = hits_of(snapshot, positions[: asked.top_k], scores)
                asked.rows = len(snapshot.row_ids)
        except Exception as exc:
            for asked in group:
                asked.error = exc
        for asked in group:
            asked.done = True

    def _filtered(self, query: FloatArray, top_k: int, where: str) -> SearchResults:
        snapshot = self.snapshot()
        ((positions, scores),) = snapshot.best(query[np.newaxis], top_k, snapshot.matching(self._store, where))
        return SearchResults(hits_of(snapshot, positions, scores), exact=True, rows=len(snapshot.row_ids))

    def _ann_hits(self, table: Any, query: FloatArray, top_k: int, where: str | None) -> tuple[Hit, ...]:
        found = ann.search(table, query, top_k, where, self._store.columns)
        return tuple(_hit(row, 1.0 - row.pop("_distance")) for row in found.to_pylist())


def hits_of(snapshot: Snapshot, positions: IntArray, scores: FloatArray) -> tuple[Hit, ...]:
    """The rows at these positions, as they are shown."""
    rows = snapshot.columns.take(positions).to_pylist()
    return tuple(_hit(row, float(score)) for row, score in zip(rows, scores, strict=False))


def _hit(row: dict[str, Any], score: float) -> Hit:
    return Hit(row.pop("id"), row.pop("uri"), score, row)
