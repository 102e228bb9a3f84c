"""Forked processes: what a child inherits from its parent, and must not use, and must not destroy.

A connection belongs to the process that opened it. A child that went on with it would take the parent's answers for
its own, and one that closed it would close the parent's. So whoever holds one follows forks, and starts anew in a
child.
"""

import ctypes
import os
import threading
import weakref
from typing import Protocol

gate = threading.RLock()
"""Held around what must not be half done at the moment of a fork; gRPC's core is usable in the child only then."""


class Follower(Protocol):
    """Whoever holds something of one process."""

    def forget_parent(self) -> None:
        """In a forked child, before anything else runs there: let go of what the parent uses."""


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


def follow(follower: Follower) -> None:
    """Have a follower told in every child of this process."""
    _followers.add(follower)


def keep_for_ever(inherited: object) -> None:
    """Never destroy an object of the parent's, not even when the child's interpreter ends.

    Destroying a gRPC channel waits for its calls, whose threads do not exist in the child.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_child() -> None:
    global gate
    gate = threading.RLock()
    for follower in list(_followers):
        follower.forget_parent()


def _before() -> None:
    gate.acquire()


def _in_parent() -> None:
    gate.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
