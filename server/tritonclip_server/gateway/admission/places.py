"""Places in an engine: how much of all requests is worked on at once, and how a large request lets small ones pass.

    a request's items ─> parts ─> each waits for places (FairSemaphore) ─> engine ─> each gives its places back

A part holds places only while the engine works on it, and waits for them holding none, so parts never wait for one
another. Images are decoded from base64 when their part has its places. Nothing that needs no engine waits: texts that
are cached ask for no places. Each model has places of its own, so one that hangs takes none from another.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import TypeVar

from tritonclip_server.gateway.admission.fair_semaphore import FairSemaphore, QueueLimits
from tritonclip_server.gateway.gather import gather_or_cancel
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.engine import Engine, Inference
from tritonclip_server.gateway.inference.followed_engine import FollowedEngine
from tritonclip_server.gateway.metrics import Metrics

T = TypeVar("T")
R = TypeVar("R")

PLACE = 4  # units of room: what an image takes, and four texts do


class Kind(Enum):
    """What one item takes of the room, how many items are a part, and how many parts of a request are at work at once.

    An image costs as much as 4 to 7 texts before a large encoder, where waiting is longest; before a small one more. A
    part is a full batch of texts for Triton's models, or images that weigh as much. Four parts of images are all that a
    request may bring, decoded side by side; of texts, one part is encoded while another is on its way.
    Decision 89 in docs/decisions.md has the figures.
    """

    IMAGE = (PLACE, 16, 4)
    TEXT = (1, 64, 2)

    def __init__(self, weight: int, part: int, at_once: int) -> None:
        self.weight = weight
        self.part = part
        self.at_once = at_once


class Admission:
    """The places of all requests for a model: `limit` images, or four times as many texts."""

    def __init__(self, limit: int, bounds: QueueLimits, metrics: Metrics, model: str = "") -> None:
        in_flight = metrics.in_flight.labels(model)
        self._semaphore = FairSemaphore(
            "places",
            limit * PLACE,
            bounds=bounds,
            metrics=metrics,
            model=model,
            changed=lambda total: in_flight.set(total / PLACE),
        )

    def turn(self, context: RequestContext, engine: Engine) -> "Turn":
        """A request's way into the engine."""
        return Turn(self._semaphore, context, engine)


class Turn:
    """One request's turns in the engine; `turned_away` where it waited for the first, and left without it."""

    def __init__(self, semaphore: FairSemaphore, context: RequestContext, engine: Engine) -> None:
        self.turned_away = False
        self._begun = False
        self._semaphore = semaphore
        self._context = context
        self._engine = engine
        self._waiting = asyncio.Lock()  # one part at a time waits, so that others wait for one of them and no more

    async def in_parts(
        self, kind: Kind, items: Sequence[T], work: Callable[[Inference, Sequence[T]], Awaitable[R]]
    ) -> list[R]:
        """What the work returns for each part of the items, in their order; it gets an engine with the time left.

        ApiError where its first part finds no room (FairSemaphore.acquire). One part that fails ends the others.
        """

        at_work = asyncio.Semaphore(kind.at_once)

        async def one(part: Sequence[T]) -> R:
            async with at_work, self._places(kind, len(part)):
                engine = self._engine.with_timeout(max(0.001, self._context.seconds_left))
                return await work(FollowedEngine(engine, self._context), part)

        return await gather_or_cancel(*(one(items[at : at + kind.part]) for at in range(0, len(items), kind.part)))

    @asynccontextmanager
    async def _places(self, kind: Kind, count: int) -> AsyncIterator[None]:
        # What takes more than there is would never be let in; alone it does no harm.
        weight = min(count * kind.weight, self._semaphore.size)
        caller, deadline = self._context.caller, self._context.deadline
        async with self._waiting:
            self.turned_away = not self._begun  # unless it is let in
            with self._context.stage("wait"):
                await self._semaphore.acquire(caller, weight, deadline=deadline, begun=self._begun)
            self._begun, self.turned_away = True, False
        try:
            yield
        finally:
            self._semaphore.release(caller, weight)
