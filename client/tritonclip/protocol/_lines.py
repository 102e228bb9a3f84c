"""When connections are opened, given up and closed: the same for gRPC and HTTP.

A line is what carries calls: a gRPC channel, or a pool of HTTP connections. The first call opens it, and a new one
takes its place

- in a forked process, since the old one is the parent's;
- once a deadline has passed on a line that was silent meanwhile. Its peer may be gone without a word (a machine that
  lost power, a NAT that forgot), and would cost every later call its whole deadline too. What is still under way there
  goes on, so that a server which is merely slow loses nothing; the line is closed when the last such call has ended.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Generic, TypeVar

from tritonclip._errors import (
    ClosedError,
    ConnectError,
    DeadlineExceededError,
    RequestCancelledError,
    TritonClipError,
)
from tritonclip.protocol import _forks
from tritonclip.protocol._futures import begun
from tritonclip.protocol.connection import Connection
from tritonclip.protocol.messages import Call, Reply

SILENCE: Final = 0.25  # seconds; a server that works may well say nothing for as long

Message = TypeVar("Message")
Answer = TypeVar("Answer")
Read = TypeVar("Read")

_NOTHING_HEARD = (ConnectError, DeadlineExceededError, RequestCancelledError)
"""Errors of this side's own making. A line does not give statuses that came over HTTP: those are answers to it."""


class Line(ABC, Generic[Message, Answer]):
    """Carries calls to the server. The counts are the transport's."""

    def __init__(self) -> None:
        self.calls = 0  # under way
        self.heard = time.monotonic()  # when the server last said anything
        self.is_left = False  # takes no further calls

    @abstractmethod
    def send(
        self, call: Call, message: Message, timeout: float, done: Callable[[Answer | TritonClipError], None]
    ) -> Callable[[], object]:
        """Send, and call ``done`` once, from any thread; what is returned gives the call up."""

    @abstractmethod
    def close(self) -> None:
        """End all calls and connections."""

    def is_disturbed_by_forks(self) -> bool:
        """Whether a fork should wait for the calls under way."""
        return False

    @abstractmethod
    def forget(self) -> None:
        """In a forked child: let go of it, and leave the parent's connections as they are."""


class LineTransport(ABC, Generic[Message, Answer]):
    """Sends calls over one line at a time. Subclasses say what a line is, and how calls are written."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._line: Line[Message, Answer] | None = None
        self._left: set[Line[Message, Answer]] = set()
        self._closed = False
        _forks.follow(self)

    @abstractmethod
    def _open(self) -> Line[Message, Answer]: ...

    @abstractmethod
    def _encode(self, call: Call) -> Message: ...

    @abstractmethod
    def _decode(self, call: Call, answer: Answer) -> Reply: ...

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Send a call; its reply comes within ``timeout`` seconds. Cancelling the future gives the call up."""
        return begun(self.exchange, call, self._encode(call), timeout, partial(self._decode, call))

    def exchange(self, call: Call, message: Message, timeout: float, read: Callable[[Answer], Read]) -> Future[Read]:
        """Send a call that is encoded already, and read its answer with ``read``."""
        future: Future[Read] = Future()
        line, began = self._take_line(), time.monotonic()
        try:
            give_up = line.send(call, message, timeout, partial(self._finish, line, began, read, future))
        except BaseException:
            self._release(line)
            raise
        future.add_done_callback(partial(self._give_up_if_cancelled, line, began, give_up))
        return future

    def close(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""
        with self._lock:
            self._closed = True
            lines = self._let_go()
        for line in lines:
            line.close()

    def is_disturbed_by_forks(self) -> bool:
        """Whether calls are under way that a fork should wait for."""
        return any(line.is_disturbed_by_forks() for line in self._lines())

    def forget_parent(self) -> None:
        """In a forked child: the next call opens a line of its own."""
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        for line in self._let_go():
            line.forget()

    def _lines(self) -> list[Line[Message, Answer]]:
        line = self._line
        return [*self._left, line] if line is not None else [*self._left]

    def _let_go(self) -> list[Line[Message, Answer]]:
        lines = self._lines()
        self._line = None
        self._left = set()
        return lines

    def _take_line(self) -> Line[Message, Answer]:
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed")
            if self._line is None:
                self._line = self._open()
            self._line.calls += 1
            return self._line

    def _finish(
        self,
        line: Line[Message, Answer],
        began: float,
        read: Callable[[Answer], Read],
        future: Future[Read],
        outcome: Answer | TritonClipError,
    ) -> None:
        """Take in how a call ended, and settle its future."""
        if not isinstance(outcome, _NOTHING_HEARD):
            line.heard = time.monotonic()
        elif self._closed:
            outcome = ClosedError("the client was closed while the request was under way")
        elif isinstance(outcome, DeadlineExceededError):
            self._leave_if_silent(line, began)
        if isinstance(outcome, ConnectError):
            outcome = self._explain(outcome)
        if future.set_running_or_notify_cancel():
            try:
                if isinstance(outcome, TritonClipError):
                    raise outcome
                future.set_result(read(outcome))
            except Exception as exc:
                future.set_exception(exc)
        self._release(line)

    def _explain(self, error: ConnectError) -> ConnectError:
        """Add how it was tried: what refuses a connection is not always what the URL names, and does not say why."""
        how = []
        if self._connection.url.is_secure:
            how.append(f"over TLS with{'' if self._connection.client_certificate else 'out'} a client certificate")
        if self._connection.proxy is not None:
            how.append(f"through the proxy {self._connection.proxy.name}")
        if not how:
            return error
        explained = ConnectError(error.url, f"{error.reason} ({', '.join(how)})")
        explained.__cause__ = error.__cause__
        return explained

    def _give_up_if_cancelled(
        self, line: Line[Message, Answer], began: float, give_up: Callable[[], object], future: Future[Any]
    ) -> None:
        if future.cancelled():
            self._leave_if_silent(line, began)  # whoever gives up has waited in vain as well
            give_up()

    def _leave_if_silent(self, line: Line[Message, Answer], began: float) -> None:
        if time.monotonic() - max(began, line.heard) < SILENCE:
            return
        with self._lock:
            if self._line is line:
                self._line = None
                self._left.add(line)
            line.is_left = True

    def _release(self, line: Line[Message, Answer]) -> None:
        with self._lock:
            line.calls -= 1
            ended = line.is_left and line.calls == 0
            if ended:
                self._left.discard(line)
        if ended:
            line.close()
