"""Where a request's time went: `body`, `wait`, `fetch`, `triton`, `search` as far as it came to them, and `answer`."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType

ANSWER = "answer"


class Timeline:
    """The seconds of a request by stage.

    Parts of a request are in a stage side by side; its seconds are those in which at least one of them was there.
    """

    def __init__(self) -> None:
        self.started = self._left = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._inside: dict[str, int] = {}
        self._since: dict[str, float] = {}

    def enter(self, name: str) -> None:
        """A part has come to a stage."""
        inside = self._inside.get(name, 0)
        if not inside:
            self._since[name] = time.perf_counter()
        self._inside[name] = inside + 1

    def leave(self, name: str) -> None:
        """A part has left a stage."""
        self._left = time.perf_counter()
        self._inside[name] -= 1
        if not self._inside[name]:
            self._seconds[name] = self._seconds.get(name, 0.0) + self._left - self._since[name]

    def end(self) -> dict[str, float]:
        """The seconds of all stages of a request that has ended; `answer` is what came after all others."""
        return self._seconds | {ANSWER: time.perf_counter() - self._left}


class Stage:
    """A block of a request, as `with` has it: in a stage of its timeline, and in a span of its trace.

    No generator, for which every request would pay several times.
    """

    __slots__ = ("_name", "_span", "_timeline")

    def __init__(self, timeline: Timeline, name: str, span: AbstractContextManager[Mapping[str, str]]) -> None:
        self._timeline = timeline
        self._name = name
        self._span = span

    def __enter__(self) -> Mapping[str, str]:
        self._timeline.enter(self._name)
        return self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timeline.leave(self._name)
        self._span.__exit__(kind, error, trace)
