"""How many bytes requests may hold: all of them together, and those of one caller.

    async with budget.hold(caller) as hold:
        await hold.acquire(announced)  before the body is read, by AccessMiddleware: it waits until there is room
        hold.grow(count)               for what comes on top: a body of unknown length, an unpacked one, images that
                                       were fetched (RequestContext.hold_more)

What a hold has is given back when its request has ended. Bytes are counted as they came; docs/gateway.md says what a
byte costs in memory until it is answered.
"""

import contextlib
from collections.abc import Iterator

from tritonclip_server.gateway.admission.fair_semaphore import FairSemaphore, QueueLimits
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.metrics import Metrics


class ByteBudget:
    """Counts the bytes that all requests hold. One body always fits: smaller limits than that are raised to it."""

    def __init__(self, *, limit: int, share: int, body: int, bounds: QueueLimits, metrics: Metrics) -> None:
        self._semaphore = FairSemaphore(
            "bytes",
            max(limit, body),
            share=max(share, body),
            bounds=bounds,
            metrics=metrics,
            changed=metrics.bytes_in_flight.set,
        )

    @contextlib.contextmanager
    def hold(self, caller: str) -> Iterator["Hold"]:
        """What a request will hold: nothing yet, and nothing any more afterwards."""
        hold = Hold(self._semaphore, caller)
        try:
            yield hold
        finally:
            self._semaphore.release(caller, hold.size)


class Hold:
    """What one request holds of the budget: `size` bytes."""

    def __init__(self, semaphore: FairSemaphore, caller: str) -> None:
        self._semaphore = semaphore
        self._caller = caller
        self.size = 0

    def try_acquire(self, count: int) -> bool:
        """Hold the bytes that a request announced, where there is room for them and nobody waits before it."""
        entered = self._semaphore.try_acquire(self._caller, count)
        self.size += count if entered else 0
        return entered

    async def acquire(self, count: int, *, deadline: float) -> None:
        """Hold the bytes that a request announced, once there is room: it holds none yet, so it may wait."""
        await self._semaphore.acquire(self._caller, count, deadline=deadline)
        self.size += count

    def grow(self, count: int) -> None:
        """Hold so many bytes more; ApiError where there is no room for them.

        It does not wait: requests that wait for each other's bytes would wait for ever.
        """
        semaphore = self._semaphore
        if not semaphore.has_room(self._caller, count):
            if self.size + count > semaphore.share and semaphore.held.get(self._caller, 0) == self.size:
                message = (
                    f"this request holds {self.size + count} bytes, more than the limit of {semaphore.share}: split it"
                )
                raise ApiError("rate_limit_exceeded", message)
            raise semaphore.refusal(
                self._caller, count, f"requests of {semaphore.total} bytes are being worked on already"
            )
        semaphore.take(self._caller, count)
        self.size += count
