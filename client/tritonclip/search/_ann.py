"""The store's own approximate index, for more rows than fit in memory.

Rows lie in partitions, about as many as the square root of their number, with 4 bits a value (IVF_RQ). A query looks
at the nearest partitions and compares the best of what it finds with the vectors themselves, so that scores are true
cosines. docs/performance.md has what other kinds and parameters give.
"""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tritonclip.protocol.messages import FloatArray
from tritonclip.search._errors import filtering, storage
from tritonclip.search._filter import checked
from tritonclip.search._lance import IvfRq

NAME = "vector_idx"
WIDTH_MULTIPLE = 8  # of what can be quantised
BITS = 4
REFINE = 2  # times top_k are compared by their vectors
SAMPLE_RATE = 64  # rows for each partition, from which these are learnt
ITERATIONS = 10


def parameters(rows: int) -> dict[str, int]:
    """How so many rows are indexed and searched."""
    return {"partitions": max(1, round(math.sqrt(rows))), "bits": BITS, "probes": _probes(rows), "refine": REFINE}


def create(table: Any, rows: int) -> None:
    """Make the index in the place of the one before; minutes for a million rows."""
    config = IvfRq(
        distance_type="cosine",
        num_partitions=parameters(rows)["partitions"],
        num_bits=BITS,
        sample_rate=SAMPLE_RATE,
        max_iterations=ITERATIONS,
    )
    table.create_index("vector", config=config, name=NAME)


def exists(table: Any) -> bool:
    """Whether there is one; the store answers from memory."""
    return any("vector" in index.columns for index in table.list_indices())


def kind_of(table: Any) -> str | None:
    """The kind of the ANN index that a table has, such as IVF_RQ; None without one."""
    return str(table.index_stats(NAME).index_type) if exists(table) else None


def search(table: Any, query: FloatArray, top_k: int, where: str | None, columns: Sequence[str]) -> pa.Table:
    """The nearest rows that it finds, with `_distance` (1 - cosine).

    With a filter it looks on until it has ``top_k`` rows, in all partitions if need be.
    """
    asked = table.search(query, vector_column_name="vector").distance_type("cosine").refine_factor(REFINE)
    asked = asked.limit(top_k).select([*columns, "_distance"])
    probes = _probes(table.count_rows())
    if where is None:
        with storage("the ANN index cannot be read"):
            return asked.nprobes(probes).to_arrow()
    asked = asked.minimum_nprobes(probes).maximum_nprobes(0).where(checked(where), prefilter=True)
    with filtering(where):
        return asked.to_arrow()


def unindexed_rows(table: Any) -> int:
    """Rows that came after the ANN index was built; 0 without one."""
    return int(table.index_stats(NAME).num_unindexed_rows) if exists(table) else 0


def _probes(rows: int) -> int:
    return max(1, round(4 * math.sqrt(math.sqrt(rows))))
