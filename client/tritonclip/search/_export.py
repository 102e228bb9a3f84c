"""An index as files that other programs read."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tritonclip._errors import ConfigError
from tritonclip.search._store import Store


def to_parquet(store: Store, path: str | os.PathLike[str]) -> int:
    """All rows with all columns, the vectors among them, in one Parquet file; how many."""
    table = store.latest()
    names = list(table.schema.names)
    rows = 0
    with _written(Path(path)) as unfinished, pa.parquet.ParquetWriter(unfinished, table.schema) as writer:
        for batch in store.batches(names, table):
            writer.write_batch(batch.select(names).cast(table.schema))
            rows += batch.num_rows
    return rows


def to_npy(store: Store, path: str | os.PathLike[str]) -> int:
    """The vectors [N, D] in the index's precision, and beside them, with the ending .jsonl, each row's id and uri."""
    path = Path(path)
    if path.suffix != ".npy":
        raise ConfigError(f"{path}: its name must end in .npy")
    table = store.latest()
    rows = table.count_rows()
    with _written(path) as unfinished, _written(path.with_suffix(".jsonl")) as names:
        shape = (rows, store.identity.width)
        vectors = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            unfinished, "w+", np.dtype(store.identity.precision), shape
        )
        with names.open("w", encoding="utf-8") as lines:
            position = 0
            for batch in store.batches(["id", "uri", "vector"], table):
                values = batch["vector"].flatten().to_numpy(zero_copy_only=False)
                vectors[position : position + batch.num_rows] = values.reshape(batch.num_rows, -1)
                position += batch.num_rows
                for row in batch.select(["id", "uri"]).to_pylist():
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        vectors.flush()
    return int(rows)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A file to write, which takes its place when it is whole; nothing is left of one that is not."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror or exc}") from exc
    finally:
        unfinished.unlink(missing_ok=True)
