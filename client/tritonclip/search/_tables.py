"""Images listed in a table, CSV or Parquet, or held in one."""

import csv
import datetime
import decimal
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tritonclip._errors import ConfigError
from tritonclip._fetch import Remote
from tritonclip._text_files import as_text
from tritonclip.search._items import Item, Value, full_path, moment
from tritonclip.search._schema import OWN_COLUMNS

LOCATIONS = ("path", "uri", "url", "file_name", "image")
CAPTIONS = ("caption", "text")
ROWS_AT_ONCE = 1024


def table_items(path: Path) -> Iterator[Item]:
    """A table's images in its order; ConfigError where the table cannot be read, or says nowhere where they are.

    Columns that an index fills itself (width, digest, …) are taken from the images and not from the table.
    """
    modified = moment(path.stat().st_mtime_ns)
    location: str | None = None
    number = 0
    for batch in _batches(path):
        names = {name.lower(): name for name in batch.schema.names}
        location = location or next((names[name] for name in LOCATIONS if name in names), None)
        if location is None:
            raise ConfigError(
                f"{path}: none of its columns is called {', '.join(LOCATIONS)}; it has {', '.join(names.values())}"
            )
        caption = next((names[name] for name in CAPTIONS if name in names), None)
        for row in batch.to_pylist():
            place, text = row.pop(location), row.pop(caption, None) if caption else None
            yield _item(
                path, number, place, None if text is None else as_text(str(text)), clean_metadata(row), modified
            )
            number += 1


def count_table(path: Path) -> int:
    """How many rows it has; of a CSV about as many as lines."""
    if path.suffix.lower() == ".parquet":
        rows: int = pa.parquet.read_metadata(path).num_rows
        return rows
    with path.open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)


def clean_metadata(row: Mapping[str, Any]) -> dict[str, Value]:
    """A row's values under names that SQL can say and the store has none of (_rowid); lists and objects become JSON."""
    named = {re.sub(r"\W+", "_", as_text(name)).strip("_"): value for name, value in row.items()}
    return {name: _clean(value) for name, value in named.items() if name and name not in OWN_COLUMNS}


def _clean(value: Any) -> Value:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return as_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return as_text(json.dumps(value, ensure_ascii=False, default=str))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        if path.suffix.lower() == ".parquet":
            with pa.parquet.ParquetFile(path) as file:
                yield from file.iter_batches(ROWS_AT_ONCE)
        else:
            yield from _read_csv(path).to_batches(ROWS_AT_ONCE)
    except (pa.ArrowException, UnicodeError, OSError) as exc:
        raise ConfigError(f"{path}: {(str(exc) or type(exc).__name__).splitlines()[0]}") from exc


def _read_csv(path: Path) -> pa.Table:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=delimiter), [])
    words = {name: pa.string() for name in header if name.lower() in (*LOCATIONS, *CAPTIONS)}  # 007 is a name, not 7
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            null_values=[""],
            strings_can_be_null=True,
            column_types=words,  # a caption may well be "NA"
        ),
    )


def _item(
    table: Path,
    number: int,
    place: Any,
    caption: str | None,
    metadata: dict[str, Value],
    modified: datetime.datetime | None,
) -> Item:
    content, name = (place.get("bytes"), place.get("path")) if isinstance(place, dict) else (place, place)
    if isinstance(content, bytes):  # Hugging Face's image is {bytes, path}
        return Item(f"{full_path(table)}#{number}", lambda: content, len(content), modified, caption, metadata)
    if not isinstance(name, str) or not name:
        reason = "the table does not say where this image is"
        return Item.failing(f"{full_path(table)}#{number}", reason, caption, metadata)
    if name.lower().startswith(("http://", "https://")):
        return Item(name, Remote(name).read, None, None, caption, metadata)
    return Item.of_file(table.parent / name, caption, metadata)
