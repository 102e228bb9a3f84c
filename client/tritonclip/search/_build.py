"""Making the store's ANN index, with its recall measured."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tritonclip._errors import ConfigError
from tritonclip.protocol.messages import FloatArray
from tritonclip.search import _ann as ann
from tritonclip.search._errors import storage
from tritonclip.search._store import ROWS, Store

QUERIES = 200
NEIGHBOURS = 10
ROUNDING = 1e-5  # by which the store's cosines may differ from numpy's


@dataclass(frozen=True)
class BuildReport:
    """What was built in how many seconds, and its recall.

    ``recall`` is the share of the ten nearest rows that it finds, the mean over so many ``queries``: rows of the index,
    each itself left out. ``parameters`` are partitions, bits a value, and of a search probes and refine.
    """

    kind: str
    parameters: dict[str, int]
    seconds: float
    recall: float
    queries: int
    rows: int


def build(store: Store) -> BuildReport:
    """Build it with parameters chosen by the number of rows, and measure recall@10 against exact search.

    ConfigError where there are no rows, or vectors of a width that cannot be quantised.
    """
    if store.identity.width % ann.WIDTH_MULTIPLE:
        raise ConfigError(
            f"{store.uri}: vectors of {store.identity.width} values cannot have an ANN index, which takes multiples "
            f"of {ann.WIDTH_MULTIPLE}; exact search does without"
        )
    started = time.perf_counter()
    with storage(f"{store.uri}: no ANN index can be built"):
        table = store.database.open_table(ROWS)
        rows: int = table.count_rows()
        if not rows:
            raise ConfigError(f"{store.uri}: there are no images to make an ANN index of")
        ann.create(table, rows)
    seconds = time.perf_counter() - started
    recall, queries = _recall(store, rows)
    kind = ann.kind_of(table) or ""
    return BuildReport(kind, ann.parameters(rows), round(seconds, 1), round(recall, 4), queries, rows)


def _recall(store: Store, rows: int) -> tuple[float, int]:
    """Recall@10, or of as many neighbours as there are, and the number of queries.

    A row found counts where its cosine is among the best: which of equal ones is found does not matter.
    """
    table = store.latest()
    positions = np.unique(np.linspace(0, rows - 1, min(QUERIES, rows)).astype(np.int64))
    with storage(f"{store.uri}: cannot be read"):
        sample = table.take_offsets(positions.tolist()).select(["vector"]).to_arrow()
    queries = _matrix(sample["vector"].combine_chunks())
    neighbours = min(NEIGHBOURS, rows - 1)
    if not neighbours:
        return 1.0, len(queries)
    shares = []
    for query, worst in zip(queries, _worst_scores(store, table, queries, 1 + neighbours), strict=True):
        distances = ann.search(table, query, 1 + neighbours, None, ["id"])["_distance"].to_numpy()
        others = np.count_nonzero(1 - distances >= worst - ROUNDING) - 1  # the row itself is the first of them
        shares.append(max(0, others) / neighbours)
    return float(np.mean(shares)), len(queries)


def _worst_scores(store: Store, table: Any, queries: FloatArray, top_k: int) -> FloatArray:
    """The cosine of the last of each query's ``top_k`` nearest rows [Q], read in blocks: they may not fit in memory."""
    best = np.full((len(queries), top_k), -np.inf, np.float32)
    for batch in store.batches(["vector"], table):
        scores = np.concatenate([best, queries @ _matrix(batch["vector"]).T], axis=1)
        best = np.partition(scores, -top_k, axis=1)[:, -top_k:]
    worst: FloatArray = best.min(axis=1)
    return worst


def _matrix(vectors: pa.FixedSizeListArray) -> FloatArray:
    """[N, D]"""
    values = vectors.flatten().to_numpy(zero_copy_only=False)
    matrix: FloatArray = values.reshape(len(vectors), -1).astype(np.float32, copy=False)
    return matrix
