"""What the launcher sets about its own process before it starts anything."""

import ctypes
import os
import resource

PR_SET_CHILD_SUBREAPER = 36


def open_standard_descriptors() -> None:
    """Open what was closed before this program began: the next file that is opened would take its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def allow_descriptors() -> None:
    """Let Triton and the gateway open as many files as the system allows: each connection is one.

    The usual soft limit is 1024, kept low for programs that use select(), which these do not.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def adopt_orphans() -> None:
    """Have the kernel give this process what Triton's processes leave behind, so that it can be ended and buried."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
