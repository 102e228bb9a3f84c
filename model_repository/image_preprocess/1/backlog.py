"""How much waits for an encoder, shared with what prepares its input, so that nothing is prepared to be refused.

    enter: until there is room ──> prepared ──leave──> waits ──take──> computed ──rest──>

An encoder whose queue has a limit joins. Its input is then prepared only when its queue has room. Until then requests
wait unprepared, and what comes beyond the queue in front of this is refused by Triton at once. The embedded server's
encoders join. LibTorch cannot; on a GPU decoding takes nothing from it.

Requests that are cancelled between `leave` and `take` are never taken. So where an instance has nothing to do and yet
there seems to be no room, Triton is asked how many really wait: clients that hang up keep nobody waiting. The file is a
server's own. When a process dies, the launcher starts all of them anew with a new file, so nobody has to count what a
dead one held.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "TRITONCLIP_BACKLOG"  # what the files' names begin with, path included; set by the embedded server
PAUSE_SECONDS = 0.005  # between two looks for room; an encoder without room is busy for many times that
# An instance with nothing to do takes what waits within a millisecond, mostly: Triton 2.51 may leave it lying for half
# a second. So once nothing has moved for so long, nobody guesses which it is.
DOUBT_NS = 20_000_000
LIMIT, IDLE, PREPARING, WAITING, MOVED_NS, ARRIVED, ADMITTED = range(7)
BYTES = 7 * 8


class Backlog:
    """The backlog of one encoder; without a path one that nobody shares, and which admits everything.

    `count` asks Triton how many requests wait in the encoder's queue.
    """

    def __init__(self, path: Path | None, count: Callable[[], int] = lambda: 0) -> None:
        self._count = count
        self._descriptor: int | None = None
        shared: bytearray | mmap.mmap = bytearray(BYTES)
        if path is not None:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(self._descriptor, BYTES)  # whoever comes first makes the zeros
            shared = mmap.mmap(self._descriptor, BYTES)
        self.cells = memoryview(shared).cast("q")

    @classmethod
    def of(cls, encoder: str, count: Callable[[], int] = lambda: 0) -> "Backlog":
        """The backlog of the encoder of this name, in the server that this process belongs to."""
        prefix = os.environ.get(VARIABLE)
        return cls(Path(f"{prefix}.{encoder}") if prefix else None, count)

    def enter(self, requests: int) -> None:
        """Wait in turn until so many requests may be prepared."""
        with self.locked() as cells:
            turn = cells[ARRIVED]
            cells[ARRIVED] += 1
        while not self._admits(turn, requests):
            self._resolve_doubt()
            time.sleep(PAUSE_SECONDS)

    def leave(self, requests: int, good: int) -> None:
        """So many requests are no longer prepared; the good ones go to the encoder."""
        with self.locked() as cells:
            cells[PREPARING] -= requests
            cells[WAITING] += good
            cells[MOVED_NS] = time.monotonic_ns()  # one clock for all processes

    def join(self, limit: int) -> None:
        """An instance of the encoder is there, with nothing to do; its queue holds so many requests (0: any number)."""
        with self.locked() as cells:
            cells[LIMIT] = limit
            cells[IDLE] += 1

    def take(self, requests: int) -> None:
        """An instance computes so many requests from now on."""
        with self.locked() as cells:
            cells[IDLE] -= 1
            cells[WAITING] = max(0, cells[WAITING] - requests)
            cells[MOVED_NS] = time.monotonic_ns()

    def rest(self) -> None:
        """An instance has nothing to do."""
        with self.locked() as cells:
            cells[IDLE] += 1
            cells[MOVED_NS] = time.monotonic_ns()

    def _admits(self, turn: int, requests: int) -> bool:
        with self.locked() as cells:
            # What an instance with nothing to do will take is not room yet: all may arrive before it takes the first.
            limit, before = cells[LIMIT], cells[WAITING] + cells[PREPARING]
            fits = not limit or not before or before + requests <= limit
            admitted = fits and cells[ADMITTED] == turn
            if admitted:
                cells[ADMITTED] += 1
                cells[PREPARING] += requests
            return admitted

    def _resolve_doubt(self) -> None:
        """Where an instance has long had nothing to do, put right how many wait for it."""
        with self.locked() as cells:
            moved = cells[MOVED_NS]
            doubtful = cells[IDLE] and cells[WAITING] and time.monotonic_ns() - moved > DOUBT_NS
        if not doubtful:
            return
        waiting = self._count()
        with self.locked() as cells:
            if cells[MOVED_NS] == moved:
                cells[WAITING], cells[MOVED_NS] = waiting, time.monotonic_ns()

    @contextmanager
    def locked(self) -> Iterator["memoryview[int]"]:
        """Alone among all processes; the kernel lets go of the locks of the dead."""
        if self._descriptor is None:
            yield self.cells
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield self.cells
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
