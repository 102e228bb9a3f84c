"""An event loop whose clock stands still while there is anything to do, and then jumps to the next timer."""

import asyncio
from collections.abc import Coroutine
from selectors import SelectSelector
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(SelectSelector):
    """Never waits: it tells its loop how long it was to."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        """What is ready now."""
        if timeout is None:
            raise RuntimeError("nothing is left to do, and something still waits: a deadlock")
        self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a clock of its own, in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """The clock."""
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in no time; RuntimeError where it would wait for ever."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
