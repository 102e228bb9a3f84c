"""Several servers behind one transport: each call goes to the one that has the fewest calls under way.

    start(call) ──the least busy of those that answer──> its transport ──no server answers──> the next one

A server that is slow keeps its calls for longer, so it is given fewer, and the others take the rest. A server that
refuses or fails does so at once, and would seem the least busy of all: it is left alone for a moment. One that cannot
be reached, or lets a deadline pass, is asked whether it is there, and left alone until it answers that. Where all are
left alone, none is.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from tritonclip._errors import (
    ConnectError,
    DeadlineExceededError,
    ServerError,
    StatusError,
    TritonClipError,
    UnavailableError,
)
from tritonclip.protocol import _forks
from tritonclip.protocol._agreement import agreed, is_for_a_manifest
from tritonclip.protocol._futures import begun, start_thread
from tritonclip.protocol.messages import Call, Reply, ServerInfoRequest
from tritonclip.protocol.transport import Transport

REST_SECONDS: Final = 0.25  # for which a server is left alone that refused or failed
PROBE_SECONDS: Final = 2.0  # between two questions to a server that is away, and for each answer


@dataclass(eq=False)
class _Server:
    url: str
    transport: Transport
    calls: int = 0  # under way
    taken: int = 0  # the number of the last call that it was given
    rests_until: float = 0.0
    is_away: bool = False
    asked_next: float = 0.0  # when it is asked whether it is still away


class BalancedTransport:
    """Sends each call to one of several servers that serve the same.

    A call that no server answered at one of them goes to the next, within its timeout: ConnectError says that all of
    them were tried. What a server answers is final here, its errors too. A manifest is the exception: ProtocolError
    says that another server has one of another model.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._servers = [_Server(url, transport) for url, transport in transports.items()]
        self._lock = threading.Lock()
        self._numbers = count(1)
        _forks.follow(self)

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Send a call; its reply comes within ``timeout`` seconds. Cancelling the future gives the call up."""
        return begun(self._begin, call, timeout)

    def close(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""
        for server in self._servers:
            server.transport.close()

    def is_disturbed_by_forks(self) -> bool:
        """Never: connections are the transports', which speak for themselves."""
        return False

    def forget_parent(self) -> None:
        """In a forked child: no call is under way."""
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        for server in self._servers:
            server.calls = 0

    def _begin(self, call: Call, timeout: float) -> Future[Reply]:
        future: Future[Reply] = Future()
        chosen = self._send(call, time.monotonic() + timeout, (), future)
        if not is_for_a_manifest(call):
            return future
        others = {
            server.url: server.transport for server in self._servers if server is not chosen and not server.is_away
        }
        return agreed(future, call, others, min(timeout, PROBE_SECONDS))

    def _send(self, call: Call, deadline: float, tried: tuple[_Server, ...], future: Future[Reply]) -> _Server:
        """Have one that was not tried yet settle the future; returns it."""
        server = self._take(tried)
        try:
            sent = server.transport.start(call, deadline - time.monotonic())
        except BaseException as exc:
            self._release(server, exc)
            raise
        sent.add_done_callback(partial(self._finish, call, deadline, (*tried, server), future))
        future.add_done_callback(lambda _: sent.cancel())
        return server

    def _send_again(self, call: Call, deadline: float, tried: tuple[_Server, ...], future: Future[Reply]) -> None:
        try:
            self._send(call, deadline, tried, future)
        except Exception as exc:
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)

    def _finish(
        self, call: Call, deadline: float, tried: tuple[_Server, ...], future: Future[Reply], sent: Future[Reply]
    ) -> None:
        """Take in how a call ended at the last of those that were tried: settle its future, or try another."""
        error = None if sent.cancelled() else sent.exception()
        self._release(tried[-1], error)
        is_left = len(tried) < len(self._servers) and time.monotonic() < deadline and not future.cancelled()
        if isinstance(error, ConnectError) and is_left:
            # In a thread: this one is a transport's own, which may have more calls to end before anything can go on.
            start_thread(self._send_again, call, deadline, tried, future)
        elif future.set_running_or_notify_cancel():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(sent.result())

    def _take(self, tried: tuple[_Server, ...]) -> _Server:
        now = time.monotonic()
        with self._lock:
            chosen = min(
                (server for server in self._servers if server not in tried),
                key=lambda server: (server.is_away, now < server.rests_until, server.calls, server.taken),
            )
            chosen.calls += 1
            chosen.taken = next(self._numbers)
            asked = [server for server in self._servers if server.is_away and server.asked_next <= now]
            for server in asked:
                server.asked_next = now + PROBE_SECONDS
        for server in asked:
            start_thread(self._ask, server)
        return chosen

    def _release(self, server: _Server, error: BaseException | None) -> None:
        now = time.monotonic()
        with self._lock:
            server.calls = max(0, server.calls - 1)  # one that a parent process began does not count here
            if isinstance(error, ConnectError | DeadlineExceededError):
                if not server.is_away:
                    server.is_away = True
                    server.asked_next = now  # it may be a connection alone that has ended
            elif isinstance(error, UnavailableError | ServerError):
                server.rests_until = now + REST_SECONDS

    def _ask(self, server: _Server) -> None:
        """Ask a server whether it is back: no caller's request is risked on that."""
        try:
            server.transport.start(ServerInfoRequest(), PROBE_SECONDS).result()
        except StatusError as exc:
            if isinstance(exc, DeadlineExceededError):
                return
        except TritonClipError:
            return
        server.is_away = False
