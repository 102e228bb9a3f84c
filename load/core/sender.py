"""One request from its sending to the verdict on its answer, for clients that wait and for those that are awaited.

The check is outside the clock: latency ends when the answer is there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from load.core.checks import Check, Outcome
from load.core.operations import Operation
from load.core.protocols import Disconnected, Prepared, RequestProblem
from tritonclip.protocol import FloatArray

NOTE_CHARACTERS = 200


class Client(Protocol):
    """What speaks one protocol, by its name."""

    name: str

    def prepare(self, operation: Operation) -> Prepared:
        """Make the request, outside the clock."""


class BlockingClient(Client, Protocol):
    """A client that waits; `load.core.clients_gevent` has them."""

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        """The answer within `deadline` seconds, or a RequestProblem."""


class AsyncClient(Client, Protocol):
    """A client for one event loop; `load.core.clients_asyncio` has them."""

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        """The answer within `deadline` seconds, or a RequestProblem."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it began (or, in an open loop, should have), on `time.perf_counter`'s clock; seconds it took.

    `note` says in words what was wrong, for all but right answers; `size` is the answer's bytes.
    """

    started: float
    latency: float
    outcome: Outcome
    items: int = 1
    note: str = ""
    size: int = 0

    @property
    def finished(self) -> float:
        """When its end was seen, on the same clock."""
        return self.started + self.latency


def send(client: BlockingClient, request: Prepared, check: Check, deadline: float, started: float) -> Sample:
    """Send a request and check its answer; `started` is when its latency begins."""
    try:
        answer = client.send(request, deadline)
    except RequestProblem as problem:
        return _failed(problem, request, started, problem.outcome)
    return _answered(answer, request, check, started)


async def send_async(
    client: AsyncClient,
    request: Prepared,
    check: Check,
    deadline: float,
    started: float,
    was_killed: Callable[[], bool] = lambda: False,
) -> Sample:
    """The same over asyncio. A connection that breaks is lost where `was_killed` says that the server had been."""
    try:
        answer = await client.send(request, deadline)
    except RequestProblem as problem:
        lost = isinstance(problem, Disconnected) and was_killed()
        return _failed(problem, request, started, Outcome.LOST if lost else problem.outcome)
    return _answered(answer, request, check, started)


def _failed(problem: RequestProblem, request: Prepared, started: float, outcome: Outcome) -> Sample:
    latency = time.perf_counter() - started
    return Sample(started, latency, outcome, request.operation.items, str(problem)[:NOTE_CHARACTERS])


def _answered(answer: FloatArray, request: Prepared, check: Check, started: float) -> Sample:
    latency = time.perf_counter() - started
    fault = check(answer)
    outcome = Outcome.ANSWERED if fault is None else Outcome.WRONG
    return Sample(started, latency, outcome, request.operation.items, fault or "", answer.nbytes)
