"""The tables of an index in its store: LanceDB, in a folder or in an object store, by the same code.

Each change is one commit: it is there whole or not at all, and whoever reads meanwhile sees the version before.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonclip._errors import ConfigError
from tritonclip.search._errors import IndexMismatchError, IndexMissingError, filtering, storage
from tritonclip.search._lance import lancedb
from tritonclip.search._schema import ERRORS_SCHEMA, HEAVY_COLUMNS, Identity

ROWS = "images"
ERRORS = "errors"
IDS_AT_ONCE = 1000  # in one condition
READ_ROWS = 8192  # of a batch
KEPT_VERSIONS = timedelta(minutes=10)  # for whoever still reads them


class Store:
    """One index's tables. `StorageError` says that the store failed; what was committed before is as it was."""

    def __init__(self, uri: str, database: lancedb.DBConnection, table: Any) -> None:
        self.uri = uri
        self.database = database
        self._table = table
        self.identity = Identity.read(table.schema, uri)

    @classmethod
    def open(cls, uri: str) -> "Store":
        """The index that is there; IndexMissingError where none is."""
        if "://" not in uri and not Path(uri).is_dir():
            raise IndexMissingError(f"{uri}: there is no index; `tritonclip index add {uri} IMAGES` makes one")
        with storage(f"{uri}: cannot be opened"):
            database = lancedb.connect(uri)
            table = open_table(database, ROWS)
            if table is None:
                raise IndexMissingError(
                    f"{uri}: there is no index in it; `tritonclip index add {uri} IMAGES` makes one"
                )
            return cls(uri, database, table)

    @classmethod
    def create(cls, uri: str, identity: Identity) -> "Store":
        """A new, empty index; ConfigError where one is there already.

        The caller has the writer's lock: of two that make one at the same moment the later would empty the earlier one.
        """
        database = connect(uri)
        with storage(f"{uri}: no index can be made"):
            if open_table(database, ROWS) is not None:
                raise ConfigError(f"{uri}: there is an index already")
            return cls(uri, database, database.create_table(ROWS, schema=identity.schema()))

    def latest(self) -> Any:
        """A handle of the table as it is now, which later commits leave as it is.

        IndexMismatchError where another index has been made in its place, of another model.
        """
        with storage(f"{self.uri}: cannot be read"):
            table = self.database.open_table(ROWS)
            table.checkout(table.version)
            now = Identity.read(table.schema, self.uri)
        if (now.fingerprint, now.width) != (self.identity.fingerprint, self.identity.width):
            raise IndexMismatchError(
                f"{self.uri} held vectors of {self.identity.variant} ({self.identity.fingerprint}) when it was opened, "
                f"and holds those of {now.variant} ({now.fingerprint}) now: open it again"
            )
        return table

    @property
    def version(self) -> int:
        """Of the last commit, whoever made it."""
        with storage(f"{self.uri}: cannot be read"):
            self._table.checkout_latest()
            version: int = self._table.version
            return version

    @property
    def columns(self) -> list[str]:
        """Those that can be shown and asked for: all but the vector and the thumbnail."""
        return [name for name in self._table.schema.names if name not in HEAVY_COLUMNS]

    def add_columns(self, types: Mapping[str, pa.DataType]) -> None:
        """Add columns of the user's own, null in the rows that are there; those that are there already stay."""
        self._table.checkout_latest()
        missing = [pa.field(name, type_) for name, type_ in types.items() if name not in self._table.schema.names]
        if missing:
            with storage(f"{self.uri}: no columns can be added"):
                self._table.add_columns(missing)

    @property
    def schema(self) -> pa.Schema:
        """Of the table of images."""
        schema: pa.Schema = self._table.schema
        return schema

    def append(self, rows: pa.Table) -> None:
        """Commit rows whose ids are not there yet."""
        with storage(f"{self.uri}: {rows.num_rows} rows cannot be written"):
            self._table.add(rows)

    def replace(self, rows: pa.Table) -> None:
        """Commit rows in the place of those with the same ids; those that are new are added."""
        with storage(f"{self.uri}: {rows.num_rows} rows cannot be written"):
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Commit that these rows are gone."""
        with storage(f"{self.uri}: rows cannot be removed"):
            for start in range(0, len(ids), IDS_AT_ONCE):
                self._table.delete(ids_condition(ids[start : start + IDS_AT_ONCE]))

    def note_errors(self, errors: Sequence[Mapping[str, Any]]) -> None:
        """Keep why images are not in the index, one reason for each."""
        if not errors:
            return
        with storage(f"{self.uri}: errors cannot be written"):
            table = open_table(self.database, ERRORS)
            if table is None:
                table = self.database.create_table(ERRORS, schema=ERRORS_SCHEMA)
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(pa.Table.from_pylist(list(errors), schema=ERRORS_SCHEMA))

    def forget_errors(self, ids: Sequence[str]) -> None:
        """These images have no error any more."""
        if not ids:
            return
        with storage(f"{self.uri}: errors cannot be written"):
            table = open_table(self.database, ERRORS)
            for start in range(0, len(ids) if table is not None else 0, IDS_AT_ONCE):
                table.delete(ids_condition(ids[start : start + IDS_AT_ONCE]))

    def errors(self) -> pa.Table:
        """The images that are not in the index, with the reasons; the newest last."""
        with storage(f"{self.uri}: cannot be read"):
            table = open_table(self.database, ERRORS)
            if table is None:
                return ERRORS_SCHEMA.empty_table()
            return table.to_arrow().sort_by("time")

    def find(self, condition: str, columns: Sequence[str], table: Any = None) -> pa.Table:
        """The rows that meet an SQL condition, with `_rowid`; InputError (filter) where it is none.

        A user's condition has been `checked`: ids may make one that is longer.
        """
        query = (self.latest() if table is None else table).search().where(condition)
        with filtering(condition):
            return query.with_row_id(True).select(list(columns)).to_arrow()

    def batches(self, columns: Sequence[str], table: Any = None) -> Iterator[pa.RecordBatch]:
        """All rows, with `_rowid`, in the order in which they are kept."""
        with storage(f"{self.uri}: cannot be read"):
            query = (self.latest() if table is None else table).search().with_row_id(True).select(list(columns))
            yield from query.to_batches(READ_ROWS)

    @property
    def small_fragments(self) -> int:
        """Files of a table that would better be one."""
        count: int = self._table.stats()["fragment_stats"]["num_small_fragments"]
        return count

    def compact(self) -> None:
        """Merge small fragments, take new rows into the ANN index, and drop versions that nobody reads any more."""
        with storage(f"{self.uri}: cannot be compacted"):
            self._table.checkout_latest()
            self._table.optimize(cleanup_older_than=KEPT_VERSIONS)
            errors = open_table(self.database, ERRORS)
            if errors is not None:
                errors.optimize(cleanup_older_than=KEPT_VERSIONS)


def ids_condition(ids: Sequence[str]) -> str:
    """Rows with these ids, as SQL: hexadecimal digits need no quoting."""
    return "id IN (" + ", ".join(f"'{each}'" for each in ids) + ")"


def connect(uri: str) -> lancedb.DBConnection:
    """The database at a place; a folder is made."""
    with storage(f"{uri}: no index can be made"):
        return lancedb.connect(uri)


def open_table(database: lancedb.DBConnection, name: str) -> Any:
    """A table; None where there is none, or where whoever made it was killed before it was whole."""
    try:
        return database.open_table(name)
    except ValueError as exc:  # lancedb lists a half-made table, and says this of one too
        if "was not found" not in str(exc):
            raise
        return None
