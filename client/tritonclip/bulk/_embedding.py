"""One shard: read, embedded, and written whole. All engines run this function.

a shard ──_readers──> batches ──(blocks of BLOCK_ROWS)──> embed_image or embed_text ──> row groups of one Parquet file

    NAME.parquet            uri, vector, caption (of texts: text), chosen columns; in the input's order
    _NAME.errors.jsonl      rows that failed, with their reasons; only where there are any
    _NAME.json              the marker, written last: counts, fingerprint, and what of the input was read
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tritonclip._client import Client
from tritonclip._core.modality import IMAGE, TEXT
from tritonclip._core.stream import Encoded
from tritonclip._errors import ConfigError, InputError
from tritonclip._operations.checks import VectorError
from tritonclip._operations.embed import Features, embed
from tritonclip.bulk._errors import storing
from tritonclip.bulk._job import TYPES, Job
from tritonclip.bulk._places import Place, write, written
from tritonclip.bulk._readers import Batch, read_shard
from tritonclip.bulk._shards import Shard

BLOCK_ROWS: Final = 4096  # of a row group; a worker holds the vectors of one


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard: its rows, those that failed, texts that were cut; the marker says it too.

    ``bytes`` is the size of its file of vectors.
    """

    name: str
    rows: int
    failed: int
    truncated: int
    bytes: int
    fingerprint: str
    input: Mapping[str, str | int]


def embed_shard(client: Client, job: Job, shard: Shard) -> ShardResult:
    """Embed a shard of the job's input and write its files; what failed before leaves nothing behind.

    Raises ShardError where the shard cannot be read, OutputError where the output cannot be written, ConfigError where
    the server's model is not the job's or changes meanwhile, and what ``Client.embed_images`` raises.
    """
    check_model(client, job)
    output = Place.of(job.output)
    place = output.below(f"{shard.name}.parquet")
    doing = f"{place.uri}: cannot be written"
    rows = truncated = 0
    errors: list[dict[str, str]] = []
    batches = read_shard(job, shard)
    with written(place) as stream:
        writer: Any = None
        while True:
            block = _Block(batches)
            features = block.embedded(client, job)
            if not block.columns:
                break
            table, failed = _table(job, pa.Table.from_batches(block.columns), features)
            with storing(doing):
                writer = writer or _writer(stream, table.schema)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
            rows += table.num_rows
            truncated += len(features.tokens)
            errors += failed
        with storing(doing):
            writer.close()  # a shard has a batch at least
            size = stream.tell()
        check_model(client, job)
        _write_errors(output.below(f"{_hidden(shard.name)}.errors.jsonl"), errors)
    result = ShardResult(shard.name, rows, len(errors), truncated, size, job.fingerprint, dict(shard.identity))
    write(output.below(marker(shard.name)), json.dumps(asdict(result)).encode() + b"\n")
    return result


def marker(name: str) -> str:
    """The path of a shard's marker."""
    return f"{_hidden(name)}.json"


def check_model(client: Client, job: Job) -> None:
    """Raise ConfigError where the server has another model than the one whose vectors the output holds."""
    now = client.manifest(refresh=True)
    if (now.fingerprint, now.embedding_width) != (job.fingerprint, job.width):
        raise ConfigError(
            f"{job.output} holds vectors of {job.variant} ({job.fingerprint}), and the server has {now.variant} "
            f"({now.fingerprint}): such vectors cannot be compared; name another folder"
        )


class _Block:
    """Rows on their way: given to the client one by one, while what is said of them stays here."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.columns: list[pa.RecordBatch] = []

    def __iter__(self) -> Iterator[Encoded]:
        rows = 0
        while rows < BLOCK_ROWS and (batch := next(self._batches, None)) is not None:
            self.columns.append(batch.columns)
            rows += len(batch.items)
            yield from batch.items

    def embedded(self, client: Client, job: Job) -> Features:
        """The features of all its rows, which are read meanwhile."""
        modality, policy = (TEXT, "warn") if job.modality == "text" else (IMAGE, "allow")
        source = modality.source(self)
        return client._run(embed(client._session, modality, source, "return", False, policy))


def _table(job: Job, columns: pa.Table, features: Features) -> tuple[pa.Table, list[dict[str, str]]]:
    """The rows that have a vector, and the reasons of the others; raises what is no single row's fault."""
    errors: list[dict[str, str]] = []
    for row, error in features.errors.items():
        if not isinstance(error, InputError | VectorError):
            raise error
        errors.append({"uri": columns["uri"][row].as_py(), "reason": str(getattr(error, "reason", error))})
    kept = np.flatnonzero(~np.isin(np.arange(columns.num_rows), list(features.errors)))
    values = pa.array(features.rows[kept].astype(job.precision).reshape(-1), TYPES[job.precision])
    vectors = pa.FixedSizeListArray.from_arrays(values, job.width)
    field = pa.field("vector", vectors.type, nullable=False)
    table = columns.take(pa.array(kept)).add_column(1, field, vectors)
    return table.replace_schema_metadata(job.metadata()), errors


def _writer(stream: Any, schema: pa.Schema) -> Any:
    """Of one version of pyarrow, equal rows make equal bytes."""
    named = [
        name for name in schema.names if name != "vector"
    ]  # no two vectors are equal, and none is less than another
    return pa.parquet.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        use_dictionary=named,
        write_statistics=named,
    )


def _write_errors(place: Place, errors: Sequence[Mapping[str, str]]) -> None:
    """The rows that failed, a line of JSON for each; no file where there are none."""
    if errors:
        write(place, b"".join(json.dumps(error, ensure_ascii=False).encode() + b"\n" for error in errors))
    else:
        with storing(f"{place.uri}: cannot be removed"):
            place.delete()


def _hidden(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}_{last}"
