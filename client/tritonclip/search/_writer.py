"""Rows into the store, a block at a time, beside the work that makes them.

A block is one commit. What has been committed stays, whatever happens next; a killed process loses its last block.
"""

import datetime
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tritonclip.search._items import Item
from tritonclip.search._rows import Row, UnfitMetadata, check_metadata, column_types, to_table
from tritonclip.search._store import Store

BLOCK_ROWS = 4096
BLOCK_SECONDS = 60.0  # a slow server's block is smaller, so that no more than this much work can be lost


class Writer:
    """Takes rows and errors, and commits them in the background; `close` commits the rest.

    ``known`` tells which ids are rows already, ``renew`` is called before each commit.
    """

    def __init__(self, store: Store, known: Callable[[str], bool], renew: Callable[[], None]) -> None:
        self._store = store
        self._known = known
        self._renew = renew
        self._schema = store.schema
        self._failed_before = set(store.errors()["id"].to_pylist())
        self._rows: list[Row] = []
        self._errors: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tritonclip-index")
        self._commit: Future[None] | None = None
        self.added = self.changed = self.failed = 0

    def add(self, row: Row) -> None:
        """Take a row; it is committed with its block."""
        types = column_types(row.item.metadata)
        if not types.keys() <= set(self._schema.names):
            self._settle()
            self._renew()
            self._store.add_columns(types)
            self._schema = self._store.schema
        try:
            check_metadata(row.item.metadata, self._schema)
        except UnfitMetadata as exc:
            self.fail(row.item, str(exc))
            return
        self._rows.append(row)

    def fail(self, item: Item, reason: str) -> None:
        """Take note of an image that cannot be had."""
        now = datetime.datetime.now(datetime.UTC)
        self._errors.append({"id": item.id, "uri": item.uri, "reason": reason, "time": now})
        self.failed += 1

    def flush_if_due(self) -> None:
        """Commit where a block is full, or old; waits for the one before."""
        waiting = len(self._rows) + len(self._errors)
        if waiting >= BLOCK_ROWS or (waiting and time.monotonic() - self._since > BLOCK_SECONDS):
            self._flush()

    def close(self) -> None:
        """Commit what is left, and wait until all is there."""
        try:
            self._flush()
            self._settle()
        finally:
            self._pool.shutdown()

    def _flush(self) -> None:
        self._settle()
        rows, errors = self._rows, self._errors
        self._rows, self._errors, self._since = [], [], time.monotonic()
        if rows or errors:
            self._commit = self._pool.submit(self._write, rows, errors)

    def _settle(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            commit.result()

    def _write(self, rows: list[Row], errors: list[dict[str, Any]]) -> None:
        self._renew()
        new = [row for row in rows if not self._known(row.item.id)]
        changed = [row for row in rows if self._known(row.item.id)]
        if new:
            self._store.append(to_table(new, self._schema))
            self.added += len(new)
        if changed:
            self._store.replace(to_table(changed, self._schema))
            self.changed += len(changed)
        self._store.note_errors(errors)
        self._store.forget_errors([row.item.id for row in rows if row.item.id in self._failed_before])
