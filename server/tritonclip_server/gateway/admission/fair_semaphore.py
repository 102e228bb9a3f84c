"""A weighted semaphore that requests share, and who is let in next: first come, first served, fairly among callers.

    acquire ─> nobody is before it, and there is room ───────────> in, until `release`
      └────> its caller's queue ─> its caller's turn, and room ──> in
                  └─> waited too long, or too many wait ─────────> 429

Callers take turns, a request each; what one caller asks goes in its order. So a flood waits behind itself. Whoever's
turn it is waits for room, and nobody passes it meanwhile: small ones do not starve a large one, which holds them up no
longer than what is inside takes to end. Passed over is only a caller that holds its own share: others cannot help it.

Who waits holds nothing here. Whoever enters a second one while holding the first must not wait in the first again.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.metrics import Metrics

ANSWER_SECONDS = 0.02  # a refusal goes out so long before its caller stops to listen


@dataclass(frozen=True)
class QueueLimits:
    """How many requests may wait for room, and each for how many seconds."""

    requests: int
    seconds: float


@dataclass(eq=False)
class _Waiter:
    caller: str
    weight: int
    begun: bool
    decided: "asyncio.Future[ApiError | None]"
    """None once it is let in (it then holds its weight), or why not."""


class FairSemaphore:
    """`size` units of something, of which one caller may hold `share`; `changed` is told how many are held.

    Where they are a model's, metrics say how many wait by its name.
    """

    def __init__(
        self,
        unit: str,
        size: int,
        *,
        share: int | None = None,
        bounds: QueueLimits,
        metrics: Metrics,
        changed: Callable[[int], object],
        model: str = "",
    ) -> None:
        self.size = size
        self.share = math.inf if share is None else share
        self.total = 0
        self.held: dict[str, int] = {}  # by caller
        self._unit = unit
        self._bounds = bounds
        self._changed = changed
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()  # the caller let in last comes last
        self._waiting: dict[str, int] = {}  # of each caller, not counting what has begun
        self._seconds = metrics.waited_seconds.labels(unit)
        self._gauge = metrics.waiting.labels(unit, model)
        self._too_many = metrics.no_room.labels(unit, "too_many_wait")
        self._too_long = metrics.no_room.labels(unit, "waited_too_long")

    @property
    def queued(self) -> int:
        """How many wait now, parts of requests that have begun among them."""
        return sum(map(len, self._queues.values()))

    def try_acquire(self, caller: str, weight: int, *, begun: bool = False) -> bool:
        """Hold so much of the room, where there is as much and nobody is before it; else False."""
        if not weight:
            return True
        if caller in self._queues or self._turn() is not None or not self.has_room(caller, weight):
            return False
        self.take(caller, weight)
        if not begun:
            self._seconds.observe(0)
        return True

    async def acquire(self, caller: str, weight: int, *, deadline: float, begun: bool = False) -> None:
        """Hold so much of the room, once there is as much; ApiError where there is none in time, or too many wait.

        `deadline` is on the loop's clock. A part of a request that has `begun` waits until it is cancelled, and does
        not count among those that wait: what was done for its request would be lost.
        """
        if self.try_acquire(caller, weight, begun=begun):
            return
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        waiter = _Waiter(caller, weight, begun, loop.create_future())
        self._queue(waiter)
        until = min(arrived + self._bounds.seconds, deadline - ANSWER_SECONDS)
        timer = None if begun else loop.call_at(until, self._give_up, waiter)
        try:
            refusal = await waiter.decided
        except asyncio.CancelledError:
            if waiter.decided.cancelled():
                self._forget(waiter)
            elif waiter.decided.result() is None:  # let in, and cancelled before it knew
                self.release(caller, weight)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if refusal is not None:
            raise refusal
        if not begun:
            self._seconds.observe(loop.time() - arrived)

    def release(self, caller: str, weight: int) -> None:
        """Give so much back."""
        if left := self.held.get(caller, 0) - weight:
            self.held[caller] = left
        else:
            self.held.pop(caller, None)
        self._count(-weight)
        self._let_in()

    def has_room(self, caller: str, weight: int) -> bool:
        """Whether there is room for so much more, whoever waits."""
        return self._within_share(caller, weight) and self.total + weight <= self.size

    def take(self, caller: str, weight: int) -> None:
        """Hold so much more, whoever waits."""
        if weight:
            self.held[caller] = self.held.get(caller, 0) + weight
            self._count(weight)

    def _within_share(self, caller: str, weight: int) -> bool:
        return self.held.get(caller, 0) + weight <= self.share

    def _turn(self) -> _Waiter | None:
        """Whose turn it is, of those whose share is not used up."""
        return next((q[0] for q in self._queues.values() if self._within_share(q[0].caller, q[0].weight)), None)

    def _let_in(self) -> None:
        """Let in whoever's turn it is, while there is room."""
        while (waiter := self._turn()) is not None and self.has_room(waiter.caller, waiter.weight):
            self._remove(waiter)
            if waiter.decided.cancelled():  # and its task has not heard of it yet
                continue
            if waiter.caller in self._queues:
                self._queues.move_to_end(waiter.caller)
            self.take(waiter.caller, waiter.weight)
            waiter.decided.set_result(None)

    def _queue(self, waiter: _Waiter) -> None:
        """Let it wait. Where too many do, the last request of the caller that has most of them is refused."""
        caller = waiter.caller
        if not waiter.begun and sum(self._waiting.values()) >= self._bounds.requests:
            most = max(self._waiting, key=lambda each: self._waiting[each])
            if self._waiting[most] <= self._waiting.get(caller, 0) + 1:  # its loss would be no fairer
                self._too_many.inc()
                raise self.refusal(caller, waiter.weight, f"{self._bounds.requests} requests wait already")
            for last in reversed(self._queues[most]):
                if not (last.begun or last.decided.done()):
                    self._refuse(last, f"{self._bounds.requests} requests wait already", self._too_many)
                    break
        self._queues.setdefault(caller, deque()).append(waiter)
        if not waiter.begun:
            self._waiting[caller] = self._waiting.get(caller, 0) + 1
            self._gauge.set(sum(self._waiting.values()))

    def _remove(self, waiter: _Waiter) -> None:
        queue = self._queues[waiter.caller]
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.caller]
        if not waiter.begun:
            self._waiting[waiter.caller] -= 1
            if not self._waiting[waiter.caller]:
                del self._waiting[waiter.caller]
            self._gauge.set(sum(self._waiting.values()))

    def _forget(self, waiter: _Waiter) -> None:
        """One that waits no longer; it may have kept others waiting."""
        if waiter in self._queues.get(waiter.caller, ()):
            self._remove(waiter)
            self._let_in()

    def _give_up(self, waiter: _Waiter) -> None:
        self._refuse(waiter, "there was no room in time", self._too_long)

    def _refuse(self, waiter: _Waiter, reason: str, count: Counter) -> None:
        if not waiter.decided.done():
            count.inc()
            waiter.decided.set_result(self.refusal(waiter.caller, waiter.weight, reason))
            self._forget(waiter)

    def refusal(self, caller: str, weight: int, reason: str) -> ApiError:
        """Why there is no room for so much: the caller's own share is used up, or else the reason given."""
        if self._within_share(caller, weight):
            return ApiError("overloaded", f"{reason}; try again")
        held = f"your requests under way hold {self.held.get(caller, 0)} {self._unit}, and may hold {self.share}"
        return ApiError("rate_limit_exceeded", f"{held}: wait for their answers")

    def _count(self, change: int) -> None:
        self.total += change
        self._changed(self.total)
