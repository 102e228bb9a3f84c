"""Where lines go that may be slow, full or gone: whoever speaks never waits for it, and never fails by it.

    put ──> queue, bounded ──> a thread of its own ──> sink: a descriptor, or a file that is turned over at its limit

A log that stops what it describes is worse than a gap in the log. What cannot be written is counted, and the count is
written once there is room again.
"""

import os
import queue
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

QUEUED_LINES = 1_000
CLOSING_SECONDS = 2.0  # for what is still queued at the end
FILE_BYTES = 10 * 2**20
OLDER_FILES = 4


class Sink(Protocol):
    """Where an outlet writes to; may block, and raises OSError where it cannot."""

    def write(self, line: bytes) -> None:
        """Write a whole line."""

    def close(self) -> None:
        """Give it back."""


class Descriptor:
    """An open descriptor, such as standard error; it stays open."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, line: bytes) -> None:
        """Write a whole line."""
        _write_all(self._number, line)

    def close(self) -> None:
        """Nothing: it was not opened here."""


class LogFile:
    """A file that lines are added to. At its limit it becomes `NAME.1`, that `NAME.2`, and the oldest is removed."""

    def __init__(self, path: Path, most_bytes: int = FILE_BYTES, older: int = OLDER_FILES) -> None:
        """Open the file; OSError where it cannot be written."""
        self._path, self._most_bytes, self._older = path, most_bytes, older
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, line: bytes) -> None:
        """Write a whole line."""
        if self._turns and self._bytes and self._bytes + len(line) > self._most_bytes:
            self._turn_over()
        _write_all(self._descriptor, line)
        self._bytes += len(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        # Not waiting, so that a pipe that nobody reads is refused; afterwards waiting, as writing whole lines needs.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o666)
        os.set_blocking(self._descriptor, True)
        found = os.fstat(self._descriptor)
        self._turns = stat.S_ISREG(found.st_mode)  # a pipe or a terminal has no limit
        self._bytes = found.st_size if self._turns else 0

    def _turn_over(self) -> None:
        if self._path.exists():  # else that was done, and only the new file could not be opened
            for number in range(self._older - 1, -1, -1):
                younger = self._numbered(number)
                if younger.exists():
                    younger.replace(self._numbered(number + 1))
        full = self._descriptor
        self._open()
        os.close(full)

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")


class Outlet:
    """Takes lines from any thread. `tell` hears once that lines are being lost, and once that they no longer are."""

    def __init__(self, sink: Sink, name: str, tell: Callable[[str], object] | None = None) -> None:
        self._sink, self._name, self._tell = sink, name, tell
        self._lines: queue.Queue[bytes | None] = queue.Queue(QUEUED_LINES)
        self._lost = 0  # lines since the last that was written
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write, name=f"to {name}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written. Never waits, never raises."""
        try:
            self._lines.put_nowait(line.encode(errors="backslashreplace") + b"\n")
        except queue.Full:
            self._lose(1)

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait a while for what is queued, and end."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return  # it is stuck in the sink, which stays open then
        self._thread.join(seconds)

    def _write(self) -> None:
        failing = False
        while (line := self._lines.get()) is not None:
            lost = self._lost
            note = b"\n[%d lines were lost]\n" % lost if lost else b""
            try:
                self._sink.write(note + line)
            except OSError as error:
                self._lose(1)
                if not failing and self._tell is not None:
                    self._tell(f"warning: {self._name}: {error.strerror or error}; lines for it are lost meanwhile")
                failing = True
                continue
            self._lose(-lost)
            if failing and self._tell is not None:
                self._tell(f"{self._name}: written again; {lost} lines were lost")
            failing = False
        self._sink.close()

    def _lose(self, lines: int) -> None:
        with self._counting:
            self._lost += lines


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
