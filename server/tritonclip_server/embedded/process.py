"""What the launcher sets about its own process before it starts anything."""

import contextlib
import ctypes
import os
import resource
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_FIRST_ARGUMENT, _ARGUMENTS_END = 48 - 3, 49 - 3  # fields of /proc/PID/stat after the name, see proc(5)


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


def hide_argument(secret: str) -> None:
    """Overwrite a secret among this process's arguments, which everybody on the machine can read."""
    hidden = os.fsencode(secret)
    with contextlib.suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
        start, end = int(fields[_FIRST_ARGUMENT]), int(fields[_ARGUMENTS_END])
        memory.seek(start)
        arguments = memory.read(end - start).split(b"\0")
        for number, argument in enumerate(arguments):
            if argument == hidden or argument.endswith(b"=" + hidden):
                arguments[number] = argument.removesuffix(hidden) + b"*" * len(hidden)
        memory.seek(start)
        memory.write(b"\0".join(arguments))
