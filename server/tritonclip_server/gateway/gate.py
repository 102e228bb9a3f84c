"""The gate that all connections pass: how many there may be, what they may hold, how long each may keep it waiting.

    a head                    HEAD_BYTES and HEADERS, within Patience.head of its first byte
    silence                   Patience.silent after connecting; uvicorn's keep-alive time after an answer
    an answer nobody reads    Patience.unread
    all of these together     BUFFERED_BYTES of heads that are not complete, and as many of answers
    connections               as many as are allowed; beyond it the oldest that asks for nothing makes room

None of this needs a key, so none of it may cost much. Bodies are the Doorkeeper's business.
"""

import asyncio
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from tritonclip_server.gateway.answers import error_answer
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.exchange import Exchange
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.request_log import log_failure

HEAD_BYTES = 32 * 1024  # of a request line with its headers; of several requests, while none of them is answered
HEADERS = 100
BUFFERED_BYTES = 64 * 2**20
SWEEP_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How many seconds a caller may take."""

    head: float = 10.0
    silent: float = 30.0
    unread: float = 60.0
    linger: float = 2.0  # to take in an answer that came before the request had been sent


class Visitor(Protocol):
    """What the gate knows of a connection."""

    waits_since: float | None
    """Since when it has owed us its first request, or the rest of one; None in between."""

    unfinished: int
    """Bytes of a head that is not complete."""

    @property
    def asking(self) -> bool:
        """Whether a request of it is being answered."""

    def check(self, now: float) -> int:
        """End it where its time is up; returns how many bytes of its answers are not read yet."""

    def refuse(self, error: ApiError) -> None:
        """Answer with an error, as far as that is possible, and end it."""

    def drop(self) -> None:
        """End it at once."""


class Gate:
    """Knows all open connections, the oldest first, and looks after them twice a second."""

    def __init__(self, limit: int, metrics: Metrics, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._limit = limit
        self._metrics = metrics
        self._visitors: dict[Visitor, None] = {}
        self._heads = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, visitor: Visitor) -> None:
        """A connection was made: there is room, or room is made, or it is refused."""
        if len(self._visitors) >= self._limit and not self._make_room():
            visitor.refuse(ApiError("overloaded", f"{self._limit} connections ask for something already; try again"))
        self._visitors[visitor] = None
        self._metrics.connections.set(len(self._visitors))
        if self._sweeping is None:
            self._sweep()

    def leave(self, visitor: Visitor) -> None:
        """A connection has ended."""
        self._visitors.pop(visitor, None)
        self._metrics.connections.set(len(self._visitors))

    def note_head(self, change: int) -> None:
        """More bytes, or less, are held of heads that are not complete. Where it is too much, the oldest one goes."""
        self._heads += change
        if self._heads > BUFFERED_BYTES:
            oldest = next((visitor for visitor in self._visitors if visitor.unfinished), None)
            if oldest is not None:
                oldest.drop()

    def note_refusal(self, error: ApiError, seconds: float) -> bytes:
        """Log and count a refusal that no route, and no middleware, heard of; returns its answer as bytes."""
        exchange = Exchange(f"req-{secrets.token_hex(12)}", 0.0, code=error.code)
        log_failure(exchange, method="-", endpoint="-", status=error.status, seconds=seconds)
        self._metrics.requests.labels("unknown", str(error.status)).inc()
        self._metrics.rejections.labels(error.code).inc()
        answer = error_answer(error)
        headers = {**answer.headers, "x-request-id": exchange.request_id, "connection": "close"}
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + bytes(answer.body)

    def _make_room(self) -> bool:
        """Drop one connection that asks for nothing: one that owes us a request before one that is merely kept."""
        idle = None
        for visitor in self._visitors:
            if visitor.asking:
                continue
            if visitor.waits_since is not None:
                idle = visitor
                break
            idle = idle or visitor
        if idle is not None:
            idle.drop()
            self.leave(idle)
        return idle is not None

    def _sweep(self) -> None:
        """Look after everybody; again and again, while there is anybody."""
        if not self._visitors:
            self._sweeping = None
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        unread = {visitor: size for visitor in list(self._visitors) if (size := visitor.check(now))}
        total = sum(unread.values())
        for visitor, size in unread.items():
            if total <= BUFFERED_BYTES:
                break
            total -= size
            visitor.drop()
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
