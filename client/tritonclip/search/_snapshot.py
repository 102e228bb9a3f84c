"""An index in memory, as it was at one commit: the vectors as one matrix, and what is shown of each row.

A later commit is taken in without reading again what has not changed.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tritonclip.protocol.messages import FloatArray
from tritonclip.search._filter import checked
from tritonclip.search._store import READ_ROWS, Store
from tritonclip.search._top import IntArray, best_rows

FILTERS_KEPT = 8


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows in the order in which they are kept: ``row_ids`` [N] are the store's own, ``vectors`` [N, D]."""

    version: int
    row_ids: npt.NDArray[np.uint64]
    vectors: FloatArray
    columns: pa.Table
    table: Any = field(repr=False)  # the store's handle at this version
    _filters: "OrderedDict[str, IntArray]" = field(default_factory=OrderedDict, repr=False)

    def best(self, queries: FloatArray, top_k: int, rows: IntArray | None) -> list[tuple[IntArray, FloatArray]]:
        """The best positions of each query, with their cosines."""
        return list(best_rows(self.vectors, queries, top_k, rows))

    def matching(self, store: Store, where: str) -> IntArray:
        """The positions of rows that meet a condition; those of the last few conditions are kept."""
        found = self._filters.get(where)
        if found is None:
            row_ids = store.find(checked(where), ["id"], self.table)["_rowid"].to_numpy()
            found = np.flatnonzero(np.isin(self.row_ids, row_ids))
            self._filters[where] = found
            while len(self._filters) > FILTERS_KEPT:
                self._filters.popitem(last=False)
        return found


def load(store: Store, before: Snapshot | None = None) -> Snapshot:
    """The index as it is now; rows that ``before`` has are taken from there."""
    table = store.latest()
    columns = [name for name in table.schema.names if name not in ("vector", "thumbnail")]
    parts = list(store.batches(columns, table))
    row_ids = _row_ids(parts)
    vectors = np.empty((len(row_ids), store.identity.width), np.float32)
    known = np.zeros(len(row_ids), bool)
    if before is not None and len(before.row_ids):
        order = np.argsort(before.row_ids)
        places = np.minimum(np.searchsorted(before.row_ids, row_ids, sorter=order), len(order) - 1)
        positions = order[places]
        known = before.row_ids[positions] == row_ids
        vectors[known] = before.vectors[positions[known]]
    _read_vectors(table, known, vectors)
    schema = pa.schema([table.schema.field(name) for name in columns])
    shown = pa.Table.from_batches([part.select(columns) for part in parts], schema=schema).combine_chunks()
    return Snapshot(table.version, row_ids, vectors, shown, table)


def _read_vectors(table: Any, known: npt.NDArray[np.bool_], into: FloatArray) -> None:
    if known.all():
        return
    first = int(np.flatnonzero(~known)[0])  # new rows come last; what lies behind the first is read whole
    query = table.search().select(["vector"]).offset(first) if first else table.search().select(["vector"])
    position = first
    for batch in query.to_batches(READ_ROWS):
        rows = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        into[position : position + batch.num_rows] = rows
        position += batch.num_rows


def _row_ids(parts: list[pa.RecordBatch]) -> npt.NDArray[np.uint64]:
    ids = [part["_rowid"].to_numpy() for part in parts]
    return np.concatenate(ids) if ids else np.empty(0, np.uint64)
