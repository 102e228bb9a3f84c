"""Items with their vectors, to rows of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tritonclip.search._images import Details
from tritonclip.search._items import Item, Value
from tritonclip.search._schema import OWN_COLUMNS


class UnfitMetadata(Exception):
    """A value that its column cannot hold; the message says which."""


@dataclass(frozen=True, eq=False)
class Row:
    """An image that is to be written."""

    item: Item
    details: Details
    vector: npt.NDArray[np.float32]


def column_types(metadata: Mapping[str, Value]) -> dict[str, pa.DataType]:
    """The types of columns that these values would make."""
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return {name: kinds[type(value)] for name, value in metadata.items() if value is not None}


def check_metadata(metadata: Mapping[str, Value], schema: pa.Schema) -> None:
    """Raise UnfitMetadata where a value is not of its column's type."""
    for name, value in metadata.items():
        if name in schema.names and value is not None:
            type_ = schema.field(name).type
            try:
                pa.scalar(fit(value, type_), type_)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                raise UnfitMetadata(f"{name}: {value!r} is no {type_}, as this column's other values are") from None


def to_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows under the table's schema, null where nothing is known."""
    width = schema.field("vector").type.list_size
    halved = schema.field("vector").type.value_type == pa.float16()
    vectors = np.stack([row.vector for row in rows]).astype(np.float16 if halved else np.float32)
    own: dict[str, list[Any]] = {
        "id": [row.item.id for row in rows],
        "uri": [row.item.uri for row in rows],
        "width": [row.details.width for row in rows],
        "height": [row.details.height for row in rows],
        "bytes": [row.details.byte_count for row in rows],
        "digest": [row.details.digest for row in rows],
        "mtime": [row.item.mtime for row in rows],
        "caption": [row.item.caption for row in rows],
        "thumbnail": [row.details.thumbnail for row in rows],
    }
    columns = []
    for field in schema:
        if field.name == "vector":
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width))
        elif field.name in OWN_COLUMNS:
            columns.append(pa.array(own[field.name], field.type))
        else:
            values = [fit(row.item.metadata.get(field.name), field.type) for row in rows]
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def fit(value: Value, type_: pa.DataType) -> Value:
    """A value as its column keeps it, if it can: words hold anything, and numbers with fractions hold whole ones."""
    if value is None or isinstance(value, bool):
        return value if value is None or type_ == pa.bool_() else str(value).lower()
    if type_ == pa.string():
        return str(value)
    if type_ == pa.float64() and isinstance(value, int):
        return float(value)
    return value
