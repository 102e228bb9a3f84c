"""Ports on loopback that a test keeps for itself."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A port where nobody listens, unless the test itself begins to, once or again.

    The socket that is bound to it keeps it from whatever else looks for a free one meanwhile, as servers of the tests
    beside this one do; a server of the test's own may have it, for both allow the address to be used again.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
