"""What an operation asks of the world.

Operations are generators that do no I/O: they yield an effect, a driver performs it (``drivers``: one blocking, one
for asyncio) and sends the result back in, or throws the error in. So every rule is written once and tested without
sleeping or a server.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from tritonclip._core.stream import Chunk, Collector, Outcome, Source
from tritonclip.protocol.messages import Call


@dataclass(frozen=True)
class Send:
    """Send a call, with so many seconds for the answer; the result is its Reply."""

    call: Call
    timeout: float


@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Wait:
    """Wait until another call of this client has settled a future, or for ``timeout`` seconds, or less."""

    future: Future[Any]
    timeout: float


@dataclass(frozen=True)
class Work:
    """Run a function that blocks or computes (reading files, writing PNGs); the result is what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Take:
    """Take up to ``count`` items from a source (all of them where it is None); the result is a list."""

    source: Source
    count: int | None


@dataclass(frozen=True)
class FanOut:
    """Cut a source into chunks and run ``work`` on each, at most ``concurrency`` at a time.

    The collector gets the outcomes. A chunk is taken from the source only when its work can start.
    """

    source: Source
    chunk_size: int
    concurrency: int
    work: "Callable[[Chunk], Operation[Outcome]]"
    collector: Collector


Effect = Send | Sleep | Wait | Work | Take | FanOut

T = TypeVar("T")
Operation = Generator[Effect, Any, T]
