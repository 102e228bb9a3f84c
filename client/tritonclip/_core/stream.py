"""Items in, rows out: the pure half of streaming a long iterable through bounded concurrency.

    caller's iterable ──Source──> Chunk ──(work)──> Outcome ──Collector──> one array, in the caller's order

A Source is read only as far as there is work to start. Outcomes arrive in any order and are put in place by position.
"""

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tritonclip._errors import InputError, ProtocolError, TritonClipError
from tritonclip.protocol.messages import FloatArray

Rows = FloatArray | list[Any]

Block = tuple[list[int], Rows]
"""Rows (an array, or a list of anything) with the position of each in what the caller gave."""

Entry = tuple[int, bytes]
"""A position in what the caller gave, and the payload to send for it."""


@dataclass(frozen=True)
class Encoded:
    """An item as it will be sent, or the reason why it cannot be."""

    payload: bytes = b""
    error: InputError | None = None


@dataclass(frozen=True)
class Chunk:
    """Neighbouring items; the first has position ``start`` in what the caller gave."""

    start: int
    items: list[Any]


@dataclass(frozen=True)
class Answer:
    """What came of one inference: rows with their positions, and errors; ``tokens`` has the length of texts cut."""

    block: Block
    errors: Mapping[int, TritonClipError] = field(default_factory=dict)
    tokens: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a chunk: that of its inferences together."""

    chunk: Chunk
    blocks: list[Block] = field(default_factory=list)
    errors: dict[int, TritonClipError] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        """Take in an inference."""
        if answer.block[0]:
            self.blocks.append(answer.block)
        self.errors.update(answer.errors)
        self.tokens.update(answer.tokens)


class Source:
    """A caller's iterable, plain or asynchronous, with room to put items back.

    ``length`` is what the iterable says of itself, or None. It serves for show alone: the items are those that come.
    """

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.length = _length(items)
        self._iterator: Iterator[Any] | AsyncIterator[Any]
        self._iterator = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._returned: deque[Any] = deque()
        self._position = 0

    def put_back(self, items: Iterable[Any]) -> None:
        """Return items to the front, in their order."""
        items = list(items)
        self._returned.extendleft(reversed(items))
        self._position -= len(items)

    def take(self, count: int | None) -> list[Any]:
        """Up to ``count`` items (all where it is None); fewer only at the end. For plain iterables."""
        if isinstance(self._iterator, AsyncIterator):
            raise InputError("an asynchronous iterable needs AsyncClient")
        items = self._take_returned(count)
        items += islice(self._iterator, None if count is None else count - len(items))
        self._position += len(items)
        return items

    async def take_async(self, count: int | None) -> list[Any]:
        """The same, for asynchronous iterables too."""
        if not isinstance(self._iterator, AsyncIterator):
            return self.take(count)
        items = self._take_returned(count)
        while count is None or len(items) < count:
            try:
                items.append(await anext(self._iterator))
            except StopAsyncIteration:
                break
        self._position += len(items)
        return items

    def is_short(self, count: int) -> bool:
        """Whether there are certainly no more than ``count`` items; only an iterable that says so is looked into."""
        if self.length is None or self.length > count:
            return False
        head = self.take(count + 1)
        self.put_back(head)
        return len(head) <= count

    def chunk(self, items: list[Any]) -> Chunk:
        """Items just taken, as a chunk that knows its place."""
        return Chunk(self._position - len(items), items)

    def _take_returned(self, count: int | None) -> list[Any]:
        wanted = len(self._returned) if count is None else min(count, len(self._returned))
        return [self._returned.popleft() for _ in range(wanted)]


def _length(items: object) -> int | None:
    try:
        return len(items) if isinstance(items, Sized) else None
    except Exception:  # whatever a caller's own class raises, its items can still be read
        return None


class Collector:
    """Gathers outcomes, in whatever order they come, and puts them in place."""

    def __init__(self, *, stop_at_error: bool, on_items: Callable[[int], object] | None = None) -> None:
        self._stop_at_error = stop_at_error
        self._on_items = on_items
        self._blocks: list[Block] = []
        self._count = 0
        self.errors: dict[int, TritonClipError] = {}
        self.tokens: dict[int, int] = {}

    def add(self, outcome: Outcome) -> None:
        """Take in what became of a chunk."""
        self._blocks += outcome.blocks
        self.errors.update(outcome.errors)
        self.tokens.update(outcome.tokens)
        self._count += len(outcome.chunk.items)
        if self._on_items is not None:
            self._on_items(len(outcome.chunk.items))

    @property
    def stopping(self) -> bool:
        """Whether no further chunk should start."""
        return self._stop_at_error and bool(self.errors)

    def matters(self, chunk: Chunk) -> bool:
        """Whether a running chunk can still change the result: after an error, only what lies before it can."""
        return not self.stopping or chunk.start < min(self.errors)

    def features(self, width: int) -> FloatArray:
        """All rows [N, D], NaN where an item failed; raises the first error where errors stop the run.

        ``width`` is D for the case that no row came back.
        """
        self._raise_first()
        blocks = [(positions, np.asarray(rows, np.float32)) for positions, rows in self._blocks]
        if blocks:
            width = blocks[0][1].shape[1]
        features = np.full((self._count, width), np.nan, dtype=np.float32)
        for positions, array in blocks:
            if array.shape[1] != width:
                raise ProtocolError(f"rows of {array.shape[1]} and of {width} values: did the server's model change?")
            features[positions] = array
        return features

    def rows(self) -> list[Any]:
        """All rows, None where an item failed; raises the first error where errors stop the run."""
        self._raise_first()
        rows: list[Any] = [None] * self._count
        for positions, block in self._blocks:
            for position, row in zip(positions, block, strict=True):
                rows[position] = row
        return rows

    def _raise_first(self) -> None:
        if self.stopping:
            raise self.errors[min(self.errors)]
