"""The store's own approximate index, for more rows than fit in memory."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tritonclip._errors import InputError
from tritonclip.protocol.messages import FloatArray
from tritonclip.search._filter import checked

NAME = "vector_idx"
PROBES = 40
REFINE = 10


def kind_of(table: Any) -> str | None:
    """The kind of the ANN index that a table has, such as IVF_PQ; None without one."""
    return next((index.index_type for index in table.list_indices() if "vector" in index.columns), None)


def search(table: Any, query: FloatArray, top_k: int, where: str | None, columns: Sequence[str]) -> pa.Table:
    """The nearest rows that it finds, with `_distance` (1 - cosine)."""
    asked = table.search(query, vector_column_name="vector").distance_type("cosine").nprobes(PROBES)
    asked = asked.refine_factor(REFINE).limit(top_k).select([*columns, "_distance"])
    if where is not None:
        asked = asked.where(checked(where), prefilter=True)
    try:
        return asked.to_arrow()
    except (ValueError, RuntimeError) as exc:
        raise InputError(f"{where!r} cannot be used: {exc}", noun="filter") from exc


def unindexed_rows(table: Any) -> int:
    """Rows that came after the ANN index was built; 0 without one."""
    name = next((index.name for index in table.list_indices() if "vector" in index.columns), None)
    return int(table.index_stats(name).num_unindexed_rows) if name is not None else 0
