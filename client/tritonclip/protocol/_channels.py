"""When connections are opened, given up and closed: the same for gRPC and HTTP.

A channel carries calls: it is gRPC's own, or a pool of HTTP connections. The first call opens it, and a new one
takes its place

- in a forked process, since the old one is the parent's;
- once a deadline has passed on a channel that was silent meanwhile. Its peer may be gone without a word (a machine that
  lost power, a NAT that forgot), and would cost every later call its whole deadline too. What is still under way there
  goes on, so that a server which is merely slow loses nothing; the channel is closed when the last such call has ended.
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
    ConfigError,
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
"""Errors of this side's own making. A channel does not give statuses that came over HTTP: those are answers to it."""


class Channel(ABC, Generic[Message, Answer]):
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


class ChannelTransport(ABC, Generic[Message, Answer]):
    """Sends calls over one channel at a time. Subclasses say what a channel is, and how calls are written."""

    def __init__(self, connection: Connection) -> None:
        if connection.url.others:
            raise ConfigError(f"{connection.url} names several servers: open_transport takes it")
        self._connection = connection
        self._lock = threading.Lock()
        self._channel: Channel[Message, Answer] | None = None
        self._left: set[Channel[Message, Answer]] = set()
        self._closed = False
        _forks.follow(self)

    @abstractmethod
    def _open(self) -> Channel[Message, Answer]: ...

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
        channel, began = self._take_channel(), time.monotonic()
        try:
            give_up = channel.send(call, message, timeout, partial(self._finish, channel, began, read, future))
        except BaseException:
            self._release(channel)
            raise
        future.add_done_callback(partial(self._give_up_if_cancelled, channel, began, give_up))
        return future

    def close(self) -> None:
        """Let go of all connections; calls under way end with ClosedError."""
        with self._lock:
            self._closed = True
            channels = self._let_go()
        for channel in channels:
            channel.close()

    def is_disturbed_by_forks(self) -> bool:
        """Whether calls are under way that a fork should wait for."""
        return any(channel.is_disturbed_by_forks() for channel in self._channels())

    def forget_parent(self) -> None:
        """In a forked child: the next call opens a channel of its own."""
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        for channel in self._let_go():
            channel.forget()

    def _channels(self) -> list[Channel[Message, Answer]]:
        channel = self._channel
        return [*self._left, channel] if channel is not None else [*self._left]

    def _let_go(self) -> list[Channel[Message, Answer]]:
        channels = self._channels()
        self._channel = None
        self._left = set()
        return channels

    def _take_channel(self) -> Channel[Message, Answer]:
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed")
            if self._channel is None:
                self._channel = self._open()
            self._channel.calls += 1
            return self._channel

    def _finish(
        self,
        channel: Channel[Message, Answer],
        began: float,
        read: Callable[[Answer], Read],
        future: Future[Read],
        outcome: Answer | TritonClipError,
    ) -> None:
        """Take in how a call ended, and settle its future."""
        if not isinstance(outcome, _NOTHING_HEARD):
            channel.heard = time.monotonic()
        elif self._closed:
            outcome = ClosedError("the client was closed while the request was under way")
        elif isinstance(outcome, DeadlineExceededError):
            self._leave_if_silent(channel, began)
        if isinstance(outcome, ConnectError):
            outcome = self._explain(outcome)
        if future.set_running_or_notify_cancel():
            try:
                if isinstance(outcome, TritonClipError):
                    raise outcome
                future.set_result(read(outcome))
            except Exception as exc:
                future.set_exception(exc)
        self._release(channel)

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
        self, channel: Channel[Message, Answer], began: float, give_up: Callable[[], object], future: Future[Any]
    ) -> None:
        if future.cancelled():
            self._leave_if_silent(channel, began)  # whoever gives up has waited in vain as well
            give_up()

    def _leave_if_silent(self, channel: Channel[Message, Answer], began: float) -> None:
        if time.monotonic() - max(began, channel.heard) < SILENCE:
            return
        with self._lock:
            if self._channel is channel:
                self._channel = None
                self._left.add(channel)
            channel.is_left = True

    def _release(self, channel: Channel[Message, Answer]) -> None:
        with self._lock:
            channel.calls -= 1
            ended = channel.is_left and channel.calls == 0
            if ended:
                self._left.discard(channel)
        if ended:
            channel.close()
