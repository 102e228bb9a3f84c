"""Forked processes: what a child inherits from its parent, and must not use.

A connection belongs to the process that opened it. A child that went on with it would take the parent's answers for
its own, and one that closed it properly would close the parent's. So whoever holds one follows forks, and starts anew
in a child.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final, Protocol

PATIENCE_SECONDS: Final = 2.0  # the longest that a fork waits for calls that it would disturb
GRPC_SUPPORT: Final = "GRPC_ENABLE_FORK_SUPPORT"

gate = threading.RLock()
"""Held while calls and connections are begun or ended, and during a fork: a child never finds one half done."""


was_disturbed = False
"""Whether the fork that made this process, or one before, found calls under way for longer than it waits."""


class Follower(Protocol):
    """Whoever holds something of one process."""

    def is_disturbed_by_forks(self) -> bool:
        """Whether work is under way whose threads a child would miss."""

    def forget_parent(self) -> None:
        """In a forked child, before anything else runs there: let go of what the parent uses."""


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


def follow(follower: Follower) -> None:
    """Have a follower told in every child of this process."""
    _followers.add(follower)


@contextmanager
def grpc_support() -> Iterator[None]:
    """Import gRPC inside: when it is imported, it decides whether it supports forks while calls are under way."""
    if GRPC_SUPPORT in os.environ:
        yield
        return
    os.environ[GRPC_SUPPORT] = "1"
    try:
        yield
    finally:
        del os.environ[GRPC_SUPPORT]  # what this process starts decides for itself


@cache
def wait_before_forks() -> None:
    """From now on, have forks wait for calls under way, as long as it takes but for ``PATIENCE_SECONDS`` at most.

    To be called when gRPC has a channel. What is registered last comes first before a fork, and gRPC's own
    preparations, registered with its first channel, stop all calls under way.
    """
    os.register_at_fork(before=_wait, after_in_parent=lambda: gate.release())


def _wait() -> None:
    gate.acquire()
    patience = time.monotonic() + PATIENCE_SECONDS
    while _is_disturbed() and time.monotonic() < patience:
        time.sleep(0.001)


def _is_disturbed() -> bool:
    return any(follower.is_disturbed_by_forks() for follower in list(_followers))


def _in_child() -> None:
    global gate, was_disturbed
    gate = threading.RLock()
    was_disturbed = was_disturbed or _is_disturbed()
    for follower in list(_followers):
        follower.forget_parent()


# The gate is looked up at each fork: a child has another one.
os.register_at_fork(before=lambda: gate.acquire(), after_in_parent=lambda: gate.release(), after_in_child=_in_child)
