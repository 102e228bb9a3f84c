"""Backpressure: so many items in flight, and the next request is told at once to come back later."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import ApiError
from gateway.metrics import Metrics


class Admission:
    """Counts the items of all requests that are being worked on."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._count = 0
        self._metrics = metrics

    @contextmanager
    def admit(self, images: int, texts: int) -> Iterator[None]:
        """Hold places for a request's items while it is worked on; ApiError where there are not enough."""
        items = images + texts
        # A request of more items than there are places would never be let in; alone it does no harm.
        if self._count and self._count + items > self._limit:
            raise ApiError("overloaded", f"{self._count} items are being worked on already; try again")
        self._count += items
        self._metrics.items.labels("image").inc(images)
        self._metrics.items.labels("text").inc(texts)
        self._metrics.in_flight.set(self._count)
        try:
            yield
        finally:
            self._count -= items
            self._metrics.in_flight.set(self._count)
