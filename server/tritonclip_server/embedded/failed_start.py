"""Of what a start of Triton fails, and whether another may succeed.

Triton gives a process of its models up that does not say for a second that it lives, as on a machine that stands still
for so long. While it starts it then aborts, goes through memory that it has given back, or waits for ever; the next
start knows nothing of that.
"""

import contextlib
import signal
import time

import psutil

from tritonclip_server.embedded.errors import PortInUse, ServerDied, StartLost
from tritonclip_server.embedded.ports import CHOOSE

TAKEN = "already in use"  # said of a port that another program has, before Triton ends
LOST_SIGNALS = (signal.SIGABRT, signal.SIGSEGV)
LOST_WORDS = ("is not healthy", "Failed to obtain the health mutex")
LOST_SECONDS = 120.0
LEAST_WORK = 0.5  # seconds of CPU time in those; a Triton that only waits used 0.3


def failed_start(said: str, code: int | None) -> PortInUse | ServerDied:
    """The error of a Triton that ended before it was ready, by what it said and by its exit code, if it has one yet."""
    if TAKEN in said:
        return PortInUse(f"{said}\nchoose others with {CHOOSE}")
    lost = code is not None and -code in LOST_SIGNALS
    return (StartLost if lost or any(words in said for words in LOST_WORDS) else ServerDied)(said)


class Progress:
    """Whether a server that starts still does anything."""

    def __init__(self, triton: int) -> None:
        self._triton = triton
        self._worked, self._since = 0.0, time.monotonic()

    def has_ended(self) -> bool:
        """Whether it and its processes have computed next to nothing for LOST_SECONDS."""
        if (worked := cpu_seconds(self._triton)) > self._worked + LEAST_WORK:
            self._worked, self._since = worked, time.monotonic()
        return time.monotonic() > self._since + LOST_SECONDS


def cpu_seconds(triton: int) -> float:
    """The CPU time that a server and the processes of its models have used so far."""
    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        server = psutil.Process(triton)
        for process in (server, *server.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
    return used
