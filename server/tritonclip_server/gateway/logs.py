"""The gateway's log: lines on stderr that cost no request any time, that callers can neither forge nor flood.

record ─> LineLimiter (a minute's worth of a kind) ─> one line, no control characters ─> queue ─> thread ─> descriptor

Nothing that a caller sent belongs into it. So a traceback has the kinds of errors and where they came from, but not
their words, which may quote a text. A disk that is full or a pipe that nobody reads costs lines, never answers.
"""

import contextlib
import logging
import os
import queue
import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import orjson

from tritonclip_server.gateway.access.rate_limit import TokenBucket

PER_MINUTE = 60  # lines of a kind, all at once if need be; then they are counted
ALL_PER_MINUTE = 600  # lines of all kinds: some 100 MB a day at most
KINDS = 500  # that are told apart; the longest unseen is forgotten
REPORT_SECONDS = 10.0  # how soon a line says how many were left out
QUEUED_LINES = 1000
MOST_CHARACTERS = 500  # of a message
FRAMES = 20  # of a traceback, the innermost
CLOSE_SECONDS = 2.0

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Clock = Callable[[], float]

log = logging.getLogger("gateway.log")


def start_logging(descriptor: int = 2) -> None:
    """Send everything that is logged in this process to a descriptor, past the limiter."""
    logging.basicConfig(level=logging.INFO, handlers=[LogWriter(descriptor)], force=True)
    logging.captureWarnings(True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the URLs of callers' images
    logging.raiseExceptions = False  # what cannot be logged is not worth a traceback on stderr


def trace(error: BaseException) -> str:
    """Where an error came from, and what caused it, outermost first: kinds and places, never an error's own words."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        frames = "".join(traceback.format_tb(link.__traceback__, limit=-FRAMES))
        parts.append(f"{frames}{type(link).__module__}.{type(link).__qualname__}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\ncaused by:\n".join(parts)


def forget_frames(error: BaseException) -> None:
    """Let go of what an error and its causes went through: the frames' variables, among them whole bodies.

    A frame that keeps an error which it raised is a cycle, which is freed when the garbage collector comes round.
    """
    seen: set[int] = set()
    links = [error]
    while links:
        link = links.pop()
        if id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [other for other in (link.__cause__, link.__context__) if other is not None]


def printable(text: str) -> str:
    """Text as it may stand in a line: control characters escaped, and not too long."""
    shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", shown)


class LineLimiter:
    """Lets a minute's worth of each kind of line through, and counts the rest."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._all = TokenBucket(ALL_PER_MINUTE, clock)
        self._kinds: dict[str, TokenBucket] = {}
        self._left_out: dict[str, int] = {}

    @property
    def kinds(self) -> int:
        """How many kinds are told apart now."""
        return len(self._kinds)

    def admit(self, kind: str) -> bool:
        """Whether a line of this kind may be written; otherwise it is counted."""
        bucket = self._kinds.pop(kind, None) or TokenBucket(PER_MINUTE, self._clock)
        self._kinds[kind] = bucket  # at the end: the first is the one that was not seen for longest
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]
        if bucket.take(1) == 0 and self._all.take(1) == 0:
            return True
        name = kind if kind in self._left_out or len(self._left_out) < KINDS else "of other kinds"
        self._left_out[name] = self._left_out.get(name, 0) + 1
        return False

    def left_out(self) -> dict[str, int]:
        """How many lines of which kinds were left out since this was last asked."""
        counts, self._left_out = self._left_out, {}
        return counts


class LineWriter:
    """Writes lines to a descriptor from a thread, which costs those who put them there no time.

    Lines are lost, and counted, where more are queued than it can write, and where the descriptor takes none. `report`
    is called now and then in the thread, and at the end.
    """

    def __init__(self, descriptor: int, report: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._report = report
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUED_LINES)
        self.lost = 0  # lines, since it was last said
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether lines are still written."""
        return self._thread.is_alive()

    def put(self, line: str) -> None:
        """Queue a line, or count it where the queue is full."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what is still queued, as far as that goes quickly."""
        if self.is_alive and self._thread is not threading.current_thread():
            self._report()
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)

    def _write_lines(self) -> None:
        reported = time.monotonic()
        while True:
            try:
                line = self._lines.get(timeout=REPORT_SECONDS)
            except queue.Empty:
                line = ""
            if line is None:
                return
            if line:
                self._write(line)
            if time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                self._report()

    def _write(self, line: str) -> None:
        rest = f"{line}\n".encode(errors="replace")
        try:
            while rest:  # never through sys.stderr, whose lock a write that hangs would keep until the process ends
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.lost += 1


class LogWriter(logging.Handler):
    """Formats records where they arise and writes them in a thread. Other people's loggers go through it as well.

    A record's attribute `kind` says what it is like; without one it is its logger's name and its message's template.
    """

    def __init__(self, descriptor: int, limiter: LineLimiter | None = None) -> None:
        super().__init__()
        self._limiter = limiter or LineLimiter()
        self._writer = LineWriter(descriptor, self._report)

    @property
    def is_alive(self) -> bool:
        """Whether lines are still written."""
        return self._writer.is_alive

    @property
    def lost(self) -> int:
        """How many lines could not be queued or written, since it was last said."""
        return self._writer.lost

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record's line into the queue, or count it where that is full."""
        if not self._limiter.admit(getattr(record, "kind", f"{record.name}: {record.msg}")):
            return
        try:
            line = _line(record.created, record.levelname, record.name, record.getMessage())
        except Exception:  # a message that does not fit its arguments
            line = _line(record.created, record.levelname, record.name, str(record.msg))
        if record.exc_info and record.exc_info[1] is not None:
            line += f"\n{trace(record.exc_info[1])}"
        elif record.exc_text:
            line += f"\n{record.exc_text}"
        self._writer.put(line)

    def close(self) -> None:
        """Write what is still queued, as far as that goes quickly."""
        self._writer.close()
        super().close()

    def _report(self) -> None:
        self.acquire()  # the handler's own lock, under which `emit` runs
        try:
            counts, lost, self._writer.lost = self._limiter.left_out(), self._writer.lost, 0
        finally:
            self.release()
        if lost:
            counts["that could not be written"] = lost
        for kind, count in counts.items():
            self._writer.put(_line(time.time(), "WARNING", "gateway.log", f"{count} more lines left out: {kind}"))


class RequestLog:
    """Lines of another kind than the log's, one for each request, to a descriptor of their own."""

    def __init__(self, descriptor: int = 1) -> None:
        self._writer = LineWriter(descriptor, self._report)

    def write(self, document: dict[str, Any]) -> None:
        """Write a document as a line of JSON that begins with the time."""
        self._writer.put(orjson.dumps({"time": moment(time.time())} | document).decode())

    def close(self) -> None:
        """Write what is still queued, as far as that goes quickly."""
        self._writer.close()

    def _report(self) -> None:
        lost, self._writer.lost = self._writer.lost, 0
        if lost:
            log.warning("%d lines about requests could not be written", lost)


def moment(seconds: float) -> str:
    """A time since 1970, as lines have it: in UTC, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"


def _line(created: float, level: str, name: str, message: str) -> str:
    return f"{moment(created)} {level} {name}: {printable(message)}"
