"""One writer at a time.

In a folder the lock is the system's own, and ends with the process that holds it. An object store has none: there it is
a table, whose creation fails where it exists. Its holder renews it with each block, and what was not renewed for
STALE_SECONDS is a dead writer's.
"""

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from tritonclip.search._errors import IndexLockedError, storage
from tritonclip.search._lance import lancedb
from tritonclip.search._store import open_table

FILE = "writer.lock"
TABLE = "writer"
STALE_SECONDS = 900.0

Renew = Callable[[], None]


@contextmanager
def writing(database: lancedb.DBConnection, uri: str) -> Iterator[Renew]:
    """Be the one who writes; IndexLockedError names another. Call what is given before each commit."""
    with _in_folder(Path(uri), uri) if "://" not in uri else _in_store(database, uri) as renew:
        yield renew


@contextmanager
def _in_folder(folder: Path, uri: str) -> Iterator[Renew]:
    with storage(f"{uri}: cannot be written to"):
        file = (folder / FILE).open("a+b", buffering=0)
    with file:
        with storage(f"{uri}: cannot be written to"):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise _locked(uri, file.read(), "try again when it has ended") from None
            file.truncate(0)
            file.write(json.dumps(_own_name()).encode())
        yield lambda: None


@contextmanager
def _in_store(database: lancedb.DBConnection, uri: str) -> Iterator[Renew]:
    token = uuid.uuid4().hex
    with storage(f"{uri}: cannot be written to"):
        _take(database, token, uri)

    def renew() -> None:
        with storage(f"{uri}: the writer's lock"):
            held = _read(database)
            if held is None or held["token"] != token:
                raise IndexLockedError(f"{uri}: another writer took over; nothing more is written")
            database.open_table(TABLE).update(where=f"token = '{token}'", values={"renewed": time.time()})

    try:
        yield renew
    finally:
        with suppress(Exception):  # then it counts as a dead writer's, later
            held = _read(database)
            if held is not None and held["token"] == token:
                database.drop_table(TABLE)


def _take(database: lancedb.DBConnection, token: str, uri: str) -> None:
    held = _read(database)
    if held is not None and time.time() - held["renewed"] > STALE_SECONDS:
        database.drop_table(TABLE)
    row = {"token": token, "renewed": time.time(), "holder": json.dumps(_own_name())}
    try:
        database.create_table(TABLE, pa.Table.from_pylist([row]), mode="create")
    except ValueError as exc:
        if "already exists" not in str(exc):
            raise
    held = _read(database)  # of two that find none at the same moment both may make one, and the later one stays
    if held is None or held["token"] != token:
        advice = f"try again when it has ended, or {STALE_SECONDS / 60:.3g} minutes after it was killed"
        raise _locked(uri, held["holder"] if held else "", advice)


def _read(database: lancedb.DBConnection) -> dict[str, Any] | None:
    """Who holds the lock; where a table has lost its row, as when its holder was killed while it dropped it, nobody."""
    table = open_table(database, TABLE)
    if table is None:
        return None
    try:
        rows = table.to_arrow().to_pylist()
    except RuntimeError as exc:
        if "Not found" not in str(exc):
            raise
        rows = []
    return rows[0] if rows else {"token": "", "renewed": 0.0, "holder": ""}


def _own_name() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _locked(uri: str, holder: str | bytes, advice: str) -> IndexLockedError:
    try:
        name = json.loads(holder)
        other = f"process {name['pid']} on {name['host']}, since {name['since']}"
    except (ValueError, LookupError, TypeError):
        other = "another process"
    return IndexLockedError(f"{uri}: {other}, is writing to this index; {advice}")
