"""A shard's rows, some hundred at a time: what is to be embedded, and beside it what is carried along.

A row that has nothing to embed fails by itself. A shard that cannot be read to its end is a ShardError.
"""

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet

from tritonclip._core.stream import Encoded
from tritonclip._errors import InputError
from tritonclip._image_files import MOST_BYTES, too_large
from tritonclip._text_files import as_text, split_lines
from tritonclip._webdataset import UNREADABLE, Sample, samples
from tritonclip.bulk._errors import ShardError, first_line
from tritonclip.bulk._job import Job
from tritonclip.bulk._places import Place
from tritonclip.bulk._shards import Kind, Shard

ROWS: Final = 256  # of a batch, at most
BYTES: Final = 32 * 1024 * 1024  # of a batch, about
AT_ONCE: Final = 8 * 1024 * 1024  # what is asked of a store in one request
FILES_AT_ONCE: Final = 16  # an object store answers each request after some 20 ms
CAPTIONS: Final = ("caption", "text")


@dataclass(frozen=True)
class Batch:
    """Neighbouring rows: what is sent of each, and the columns uri, caption (or text) and those that were chosen."""

    items: list[Encoded]
    columns: pa.RecordBatch


def read_shard(job: Job, shard: Shard) -> Iterator[Batch]:
    """A shard's rows in its order, in at least one batch, which may be empty."""
    try:
        yield from _READERS[shard.kind](job, shard)
    except (*UNREADABLE, pa.ArrowException) as exc:
        raise ShardError(f"{shard.uri}: cannot be read: {first_line(exc)}") from exc


@dataclass(frozen=True)
class _Row:
    uri: str
    item: Encoded
    caption: str | None = None
    said: Mapping[str, Any] | None = None


def _tar(job: Job, shard: Shard) -> Iterator[Batch]:
    place = Place.of(shard.uri)
    rows = _texts_of if job.modality == "text" else _images_of
    with (
        place.filesystem.open_input_file(place.path) as file,
        BufferedReader(file, AT_ONCE) as buffered,
        tarfile.open(fileobj=buffered) as tar,
    ):
        try:
            yield from _gathered(job, (row for sample in samples(tar) for row in rows(shard, sample)))
        except UNREADABLE as exc:
            raise ShardError(f"{shard.uri}: cannot be read beyond byte {tar.offset:,}: {first_line(exc)}") from exc


def _images_of(shard: Shard, sample: Sample) -> Iterator[_Row]:
    caption, said = sample.caption(), sample.document()
    for member in sample.images():
        item = _failing(too_large(member.size)) if member.content is None else Encoded(member.content)
        yield _Row(f"{shard.uri}#{member.name}", item, caption, said)


def _texts_of(shard: Shard, sample: Sample) -> Iterator[_Row]:
    caption = sample.caption()
    yield _Row(f"{shard.uri}#{sample.key}", _text(caption), caption, sample.document())


def _files(job: Job, shard: Shard) -> Iterator[Batch]:
    place = Place.of(shard.uri)
    if not shard.files:
        yield from _gathered(job, [])
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="tritonclip-bulk") as pool:
        names = iter(shard.files)
        while some := list(islice(names, FILES_AT_ONCE)):  # no more than these are held at a time
            yield from _gathered(job, pool.map(partial(_file, place), some))


def _file(folder: Place, name: str) -> _Row:
    place = folder.below(name)
    try:
        size = place.found().size
        item = _failing(too_large(size)) if size is not None and size > MOST_BYTES else Encoded(place.read())
    except OSError as exc:
        item = _failing(first_line(exc))
    return _Row(place.uri, item)


def _lines(job: Job, shard: Shard) -> Iterator[Batch]:
    lines = split_lines(Place.of(shard.uri).read().decode("utf-8-sig"))
    yield from _gathered(
        job, (_Row(f"{shard.uri}#{number}", _text(line), line) for number, line in enumerate(lines, start=1))
    )


def _gathered(job: Job, rows: Iterable[_Row]) -> Iterator[Batch]:
    """Rows in batches; what is said of them are strings, as JSON has no types that would be the same in all shards."""
    waiting: list[_Row] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += len(row.item.payload)
        if len(waiting) >= ROWS or size >= BYTES:
            yield _batch(job, waiting)
            waiting, size = [], 0
    yield _batch(job, waiting)


def _batch(job: Job, rows: list[_Row]) -> Batch:
    columns = {
        "uri": [as_text(row.uri) for row in rows],
        _caption_of(job): [None if row.caption is None else as_text(row.caption) for row in rows],
        **{name: [_said(row.said, name) for row in rows] for name in job.columns},
    }
    batch = pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return Batch([row.item for row in rows], batch)


def _said(document: Mapping[str, Any] | None, name: str) -> str | None:
    value = (document or {}).get(name)
    return None if value is None else as_text(value if isinstance(value, str) else json.dumps(value))


def _parquet(job: Job, shard: Shard) -> Iterator[Batch]:
    place = Place.of(shard.uri)
    with (
        place.filesystem.open_input_file(place.path) as file,
        pa.parquet.ParquetFile(file, buffer_size=AT_ONCE, pre_buffer=False) as table,
    ):
        schema = table.schema_arrow
        column = _column(job, shard, schema)
        caption = next((name for name in CAPTIONS if name in schema.names and job.modality == "image"), None)
        if missing := [name for name in job.columns if name not in schema.names]:
            raise ShardError(f"{shard.uri}: it has no column {missing[0]!r}; it has {', '.join(schema.names)}")
        wanted = list(dict.fromkeys([column, *([caption] if caption else []), *job.columns]))
        number = 0
        for rows in _nonempty(table.iter_batches(_rows_at_once(table), columns=wanted), schema, wanted):
            values = [None] * rows.num_rows if caption is None else rows[caption].to_pylist()
            items = [_item(job, value) for value in rows[column].to_pylist()]
            if job.modality == "text":
                values = [item.payload.decode() if item.error is None else None for item in items]
            texts = [None if value is None else as_text(str(value)) for value in values]
            uris = [f"{shard.uri}#{number + row}" for row in range(rows.num_rows)]
            own = {"uri": pa.array(uris, pa.string()), _caption_of(job): pa.array(texts, pa.string())}
            yield Batch(items, pa.record_batch({**own, **{name: rows[name] for name in job.columns}}))
            number += rows.num_rows


def _column(job: Job, shard: Shard, schema: pa.Schema) -> str:
    names = (job.column, "caption") if job.column == "text" else (job.column,)
    found = next((name for name in names if name in schema.names), None)
    if found is None:
        raise ShardError(
            f"{shard.uri}: it has no column {' or '.join(names)}; it has {', '.join(schema.names)}: name one (--column)"
        )
    return found


def _rows_at_once(table: Any) -> int:
    """So many that they come to about BYTES."""
    count = table.metadata.num_rows
    size = sum(table.metadata.row_group(group).total_byte_size for group in range(table.metadata.num_row_groups))
    return int(max(1, min(ROWS, BYTES * count // size))) if size else ROWS


def _nonempty(batches: Iterator[pa.RecordBatch], schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The batches, or one without rows where there are none: columns have their types all the same."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        yield pa.RecordBatch.from_pylist([], pa.schema([schema.field(name) for name in names]))


def _item(job: Job, value: Any) -> Encoded:
    if job.modality == "text":
        return _text(value)
    content = value.get("bytes") if isinstance(value, dict) else value  # Hugging Face's image is {bytes, path}
    if not isinstance(content, bytes):
        return _failing("the table does not hold its bytes")
    return _failing(too_large(len(content))) if len(content) > MOST_BYTES else Encoded(content)


def _text(value: Any) -> Encoded:
    return Encoded(as_text(value).encode()) if isinstance(value, str) else _failing("there is no text")


def _failing(reason: str) -> Encoded:
    return Encoded(error=InputError(reason))


def _caption_of(job: Job) -> str:
    return "text" if job.modality == "text" else "caption"


_READERS: Final[Mapping[Kind, Callable[[Job, Shard], Iterator[Batch]]]] = {
    "tar": _tar,
    "parquet": _parquet,
    "files": _files,
    "lines": _lines,
}
