"""Stopping without breaking anything: what has begun is finished, what comes new is sent elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from tritonclip_server.gateway.errors import ApiError


class Drain:
    """Counts the requests under way; once `stopping` is set, new ones are refused. Safe to set in a signal handler."""

    def __init__(self) -> None:
        self.stopping = False
        self.under_way = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Take on a request until it has ended; ApiError where the gateway is stopping."""
        if self.stopping:
            raise ApiError("shutting_down", "this gateway is stopping; ask again, another one will answer")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
