"""The limits that all connections share: how many there may be, what they may hold, how long each may keep it waiting.

    a head                    HEAD_BYTES and HEADERS, within ConnectionTimeouts.head of its first byte
    silence                   ConnectionTimeouts.silent after connecting; uvicorn's keep-alive time after an answer
    an answer nobody reads    ConnectionTimeouts.unread
    all of these together     BUFFERED_BYTES of heads that are not complete, and as many of answers
    connections               as many as are allowed; beyond it the oldest that asks for nothing makes room, or whose
                              body has stopped coming

None of this needs a key, so none of it may cost much. Bodies are the access middleware's business.
"""

import asyncio
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.http.request_log import log_failure
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.responses.json_responses import error_response

HEAD_BYTES = 32 * 1024  # of a request line with its headers; of several requests, while none of them is answered
HEADERS = 100
BUFFERED_BYTES = 64 * 2**20
SWEEP_SECONDS = 0.5


@dataclass(frozen=True)
class ConnectionTimeouts:
    """How many seconds a caller may take."""

    head: float = 10.0
    silent: float = 30.0
    unread: float = 60.0
    stalled: float = 2.0  # between two parts of a body, once there is no room for other connections
    linger: float = 2.0  # to take in an answer that came before the request had been sent


class LimitedConnection(Protocol):
    """What the limiter knows of a connection."""

    waits_since: float | None
    """Since when it has owed us its first request, or the rest of one; None in between."""

    unfinished: int
    """Bytes of a head that is not complete."""

    @property
    def asking(self) -> bool:
        """Whether a request of it is being answered."""

    @property
    def stalled(self) -> bool:
        """Whether the rest of a body that it has begun does not come."""

    def check(self, now: float) -> int:
        """End it where its time is up; returns how many bytes of its answers are not read yet."""

    def refuse(self, error: ApiError) -> None:
        """Answer with an error, as far as that is possible, and end it."""

    def drop(self) -> None:
        """End it at once."""


class ConnectionLimiter:
    """Knows all open connections, the oldest first, and looks after them twice a second."""

    def __init__(self, limit: int, metrics: Metrics, timeouts: ConnectionTimeouts | None = None) -> None:
        self.timeouts = timeouts or ConnectionTimeouts()
        self._limit = limit
        self._metrics = metrics
        self._connections: dict[LimitedConnection, None] = {}
        self._heads = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, connection: LimitedConnection) -> None:
        """A connection was made: there is room, or room is made, or it is refused."""
        if len(self._connections) >= self._limit and not self._make_room():
            connection.refuse(ApiError("overloaded", f"{self._limit} connections ask for something already; try again"))
        self._connections[connection] = None
        self._metrics.connections.set(len(self._connections))
        if self._sweeping is None:
            self._sweep()

    def leave(self, connection: LimitedConnection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)
        self._metrics.connections.set(len(self._connections))

    def note_head(self, change: int) -> None:
        """More bytes, or less, are held of heads that are not complete. Where it is too much, the oldest one goes."""
        self._heads += change
        if self._heads > BUFFERED_BYTES:
            oldest = next((connection for connection in self._connections if connection.unfinished), None)
            if oldest is not None:
                oldest.drop()

    def note_refusal(self, error: ApiError, seconds: float) -> bytes:
        """Log and count a refusal that no route, and no middleware, heard of; returns its answer as bytes."""
        context = RequestContext(f"req-{secrets.token_hex(12)}", 0.0, code=error.code)
        log_failure(context, method="-", endpoint="-", status=error.status, seconds=seconds)
        self._metrics.requests.labels("unknown", str(error.status), "").inc()  # it names no model yet
        self._metrics.rejections.labels(error.code).inc()
        answer = error_response(error)
        headers = {**answer.headers, "x-request-id": context.request_id, "connection": "close"}
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + bytes(answer.body)

    def _make_room(self) -> bool:
        """Drop one connection that asks for nothing: one that owes us a request before one that is merely kept.

        Where all ask for something, one goes that does not say what.
        """
        idle = None
        for connection in self._connections:
            if connection.asking:
                continue
            if connection.waits_since is not None:
                idle = connection
                break
            idle = idle or connection
        idle = idle or next((connection for connection in self._connections if connection.stalled), None)
        if idle is not None:
            idle.drop()
            self.leave(idle)
        return idle is not None

    def _sweep(self) -> None:
        """Look after everybody; again and again, while there is anybody."""
        if not self._connections:
            self._sweeping = None
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        unread = {connection: size for connection in list(self._connections) if (size := connection.check(now))}
        total = sum(unread.values())
        for connection, size in unread.items():
            if total <= BUFFERED_BYTES:
                break
            total -= size
            connection.drop()
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
