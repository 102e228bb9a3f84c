"""How many requests a worker has in flight: as many as the servers bear, which nobody has to know beforehand.

Additive increase, multiplicative decrease, as TCP has it (RFC 5681): until the first refusal each answer allows one
request more, later each round of answers does; a refusal halves what is allowed. So any number of workers that share
some servers come to a balance, and none of them has to be told of the others.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Condition

from tritonclip._errors import ClosedError, ConnectError, UnavailableError
from tritonclip.protocol.messages import Call, Reply
from tritonclip.protocol.statuses import status_error
from tritonclip.protocol.transport import Transport

_REFUSED = (UnavailableError, ConnectError)


class PacedTransport:
    """Another transport with at most ``allowed`` calls under way, from 1 to ``most``.

    ``start`` waits for its turn, which counts to the call's timeout. Closing ends this one alone.
    """

    def __init__(self, transport: Transport, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.allowed = 1.0
        self._transport = transport
        self._most = float(most)
        self._clock = clock
        self._changed = Condition()
        self._under_way = 0
        self._lowered = -1.0  # when it was
        self._closed = False

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Send a call when its turn comes."""
        asked = self._clock()
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout):
                raise status_error("DEADLINE_EXCEEDED", f"no turn within {timeout:g} s", call.model)
            if self._closed:
                raise ClosedError("the run has ended")
            self._under_way += 1
        began = self._clock()
        try:
            future = self._transport.start(call, max(0.001, timeout - (began - asked)))
        except BaseException as exc:
            self._end(began, exc)
            raise
        future.add_done_callback(partial(self._note, began))
        return future

    def close(self) -> None:
        """Start no more calls; those under way end by themselves."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or self._under_way < int(self.allowed)

    def _note(self, began: float, future: Future[Reply]) -> None:
        self._end(began, ClosedError() if future.cancelled() else future.exception())

    def _end(self, began: float, error: BaseException | None) -> None:
        with self._changed:
            self._under_way -= 1
            if isinstance(error, _REFUSED):
                if began > self._lowered:  # those sent before are refused for the same reason
                    self.allowed, self._lowered = max(1.0, self.allowed / 2), self._clock()
            elif error is None:
                more = 1.0 if self._lowered < 0 else 1.0 / self.allowed
                self.allowed = min(self._most, self.allowed + more)
            self._changed.notify_all()
