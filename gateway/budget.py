"""How many bytes requests may hold: all of them together, and those of one caller.

    async with budget.hold(caller, announced) as hold:   before the body is read, by the Doorkeeper
        hold.grow(count)                                 for what comes on top: a body of unknown length, an unpacked
                                                         one, images that were fetched (Exchange.hold_more)

What a hold has is given back when its request has ended. Bytes are counted as they came; docs/gateway.md says what a
byte costs in memory until it is answered.
"""

import contextlib
from collections.abc import AsyncIterator

from gateway.errors import ApiError
from gateway.metrics import Metrics


class Budget:
    """Counts the bytes that all requests hold. One body always fits: smaller limits than that are raised to it."""

    def __init__(self, *, limit: int, share: int, body: int, metrics: Metrics) -> None:
        self._limit = max(limit, body)
        self._share = max(share, body)
        self._metrics = metrics
        self._total = 0
        self._held: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def hold(self, caller: str, announced: int = 0) -> AsyncIterator["Hold"]:
        """Room for a request's bytes, as many as it announced; ApiError where there is none.

        Who should wait for room in place of being refused would wait here: nothing is held yet, so nobody can wait for
        one another. `Hold.grow` can only refuse.
        """
        hold = Hold(self, caller)
        try:
            hold.grow(announced)
            yield hold
        finally:
            self._give_back(caller, hold.size)

    def take(self, caller: str, count: int, own: int) -> None:
        """Add to what a caller's request holds already (`own`); ApiError, and nothing taken, where it is too much."""
        held = self._held.get(caller, 0)
        if held + count > self._share:
            alone = held == own
            raise ApiError(
                "rate_limit_exceeded",
                f"this request holds {own + count} bytes, more than the limit of {self._share}: split it"
                if alone
                else f"your requests under way hold {held} bytes, and may hold {self._share}: wait for their answers",
            )
        if self._total + count > self._limit:
            raise ApiError("overloaded", f"requests of {self._total} bytes are being worked on already; try again")
        self._held[caller] = held + count
        self._count(count)

    def _give_back(self, caller: str, count: int) -> None:
        left = self._held.get(caller, 0) - count
        if left > 0:
            self._held[caller] = left
        else:
            self._held.pop(caller, None)
        self._count(-count)

    def _count(self, change: int) -> None:
        self._total += change
        self._metrics.bytes_in_flight.set(self._total)


class Hold:
    """What one request holds of the budget: `size` bytes."""

    def __init__(self, budget: Budget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self.size = 0

    def grow(self, count: int) -> None:
        """Hold so many bytes more; ApiError where there is no room for them."""
        self._budget.take(self._caller, count, self.size)
        self.size += count
