"""One caller's connection: uvicorn's, with an end to whatever uvicorn takes without one.

    bytes ─> httptools ─> callbacks, counted here ─> uvicorn's cycles, a request each ─> ASGI
                                │
                                └─> refuse: an error's answer, then nothing of this connection is read any more

uvicorn's httptools protocol keeps heads of any size, queues any number of requests, and waits for ever for the rest of
a head and for an answer to be read. Its h11 protocol bounds sizes, not times, and costs a quarter of the requests a
second (docs/decisions.md).
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.connection_limits import HEAD_BYTES, HEADERS, ConnectionLimiter

GONE = "tritonclip.gone"  # the ASGI extension that is an event: the connection has ended
PIPELINED = 8  # requests that wait for the answers to those before them


class _Refused(Exception):
    """Raised in the parser's callbacks to stop it; `refuse` was told why."""


class LingeringTransport:
    """A transport whose `close` calls its connection, which may have to wait: see `Connection.end`."""

    def __init__(self, real: asyncio.Transport, connection: "Connection") -> None:
        self._real = real
        self._connection = connection
        self.closed = False

    def close(self) -> None:
        """End the connection, once the other side can have read what was sent."""
        self._connection.end()

    def is_closing(self) -> bool:
        """Whether it has been closed, or is about to be."""
        return self.closed or self._real.is_closing()

    def write(self, data: bytes) -> None:
        """Send, unless it was closed here; ConnectionResetError where the caller hung up."""
        if self.closed:
            return
        if self._real.is_closing():
            self._connection.hang_up()
            raise ConnectionResetError("the caller hung up")
        self._real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Connection(HttpToolsProtocol):
    """Serves one connection, within the limits of all."""

    def __init__(self, *, limiter: ConnectionLimiter, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.waits_since: float | None = None
        self._limiter = limiter
        self._real: asyncio.Transport = None  # type: ignore[assignment]  # until the connection is made
        self._gone = asyncio.Event()
        self._opened = 0.0
        self._spoke = False  # whether anything was received
        self._heard = 0.0  # when something was last received
        self._deaf = False  # whether what is received is thrown away
        self._lingers_since: float | None = None
        self._unread_since: float | None = None
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0  # of all heads since the last answer, as far as they are parsed
        self._headers = 0
        self.unfinished = 0  # bytes of a head that is not complete
        self._refusal: ApiError | None = None

    # What uvicorn and the event loop call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask to be let in."""
        self._real = cast(asyncio.Transport, transport)
        super().connection_made(cast(asyncio.Transport, LingeringTransport(self._real, self)))
        self._opened = self.waits_since = self.loop.time()
        self._limiter.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        self._gone.set()
        self._note_head(0)
        self._limiter.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see whether it may go on."""
        if self._deaf:
            return
        self._heard = self.loop.time()
        if not self._spoke:
            self._spoke, self.waits_since = True, None
        super().data_received(data)
        if self._in_head:
            self._note_head(self.unfinished + len(data))
            if self.unfinished > HEAD_BYTES and not self._deaf:
                self.refuse(_too_large())
        if self.waits_since is None and not self.asking:
            self.waits_since = self.loop.time()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.scope["extensions"] = {GONE: self._gone}  # type: ignore[dict-item]  # the event is no message
        self._in_message = self._in_head = True
        if not self.asking:
            self._head_bytes = self._headers = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body."""
        self._headers += 1
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is complete, and its request begins, or waits for those before it."""
        if len(self.pipeline) >= PIPELINED:
            self._stop_parsing(ApiError("overloaded", f"more than {PIPELINED} requests wait on this connection"))
        self._in_head = False
        self._note_head(0)
        super().on_headers_complete()
        self.waits_since = None

    def on_message_complete(self) -> None:
        """A request has arrived whole."""
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was written."""
        super().on_response_complete()
        self._head_bytes = self._headers = 0
        if self._in_head and not self.asking:
            self.waits_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, in place of which there are ours
        """What uvicorn does when the parser gives up: for our own reasons, or since this is no HTTP."""
        self.refuse(self._refusal or ApiError("invalid_http", "this is not valid HTTP"))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an upgrade that is asked for and not given is no trouble, and callers may not fill the log."""

    # What the limiter calls.

    @property
    def asking(self) -> bool:
        """Whether a request of it is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def stalled(self) -> bool:
        """Whether the rest of a body that it has begun does not come, though nothing here keeps it from coming."""
        if not self.asking or not self.cycle.more_body or self.cycle.waiting_for_100_continue or self.flow.read_paused:
            return False
        return bool(self.loop.time() - self._heard > self._limiter.timeouts.stalled)

    def check(self, now: float) -> int:
        """End it where its time is up; returns how many bytes of its answers are not read yet."""
        if unread := self._real.get_write_buffer_size():
            self._unread_since = self._unread_since or now
            if now - self._unread_since > self._limiter.timeouts.unread:
                self.drop()
            return unread
        self._unread_since = None
        if self._lingers_since is not None:
            if now - self._lingers_since > self._limiter.timeouts.linger:
                self.drop()
        elif self.waits_since is not None:
            self._hurry(now - self.waits_since)
        return 0

    def _hurry(self, waited: float) -> None:
        """Give up a request that does not come, or does not end."""
        timeouts = self._limiter.timeouts
        if waited <= (timeouts.head if self._spoke else timeouts.silent):
            return
        if self._in_head:
            self.refuse(ApiError("request_timeout", f"the request did not arrive within {timeouts.head:g} s"))
        else:  # nothing was said, or this is the rest of one that is answered already
            self.drop()

    def refuse(self, error: ApiError) -> None:
        """Answer with an error, unless other answers are due before it, and end the connection."""
        self._deaf = True
        self._note_head(0)
        self.waits_since = None
        self._unset_keepalive_if_required()
        cycle = self.cycle if self.asking else None
        answer = self._limiter.note_refusal(error, self.loop.time() - self._opened)
        if cycle is not None and not cycle.more_body:  # whole requests came before: the last of them is the end
            cycle.keep_alive = False
        elif cycle is not None and (self.pipeline or cycle.response_started):
            self.drop()
        else:
            self.hang_up()
            self.transport.write(answer)
            self._linger()

    def drop(self) -> None:
        """End it at once."""
        self._deaf = True
        self._note_head(0)
        self.hang_up()
        self._real.abort()

    def hang_up(self) -> None:
        """Let a request that is being answered know that nobody waits for it any more."""
        self._gone.set()
        if self.asking:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def end(self) -> None:
        """Close the connection, but not while the caller is sending."""
        if self._in_message:
            self._linger()
        elif self._lingers_since is None:
            self._real.close()

    def _linger(self) -> None:
        """Close this side, and ignore the rest of the request for a moment.

        What is received after closing is answered with a reset, and a reset makes the caller's system throw away an
        answer that its program has not read.
        """
        if self._lingers_since is not None or self._real.is_closing():
            return
        self._deaf = True
        self._lingers_since = self.loop.time()
        cast(LingeringTransport, self.transport).closed = True
        self._real.write_eof()
        self.flow.resume_reading()

    def _note_head(self, size: int) -> None:
        """So many bytes are held of a head that is not complete."""
        change, self.unfinished = size - self.unfinished, size
        if change:
            self._limiter.note_head(change)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES or self._headers > HEADERS:
            self._stop_parsing(_too_large())

    def _stop_parsing(self, error: ApiError) -> None:
        self._refusal = error
        raise _Refused


def _too_large() -> ApiError:
    return ApiError("headers_too_large", f"more than {HEADERS} headers, or {HEAD_BYTES} bytes of them")
