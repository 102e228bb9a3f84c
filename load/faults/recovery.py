"""A Triton that dies under an experiment, and comes back.

Before 25.04 it can die of a gRPC call that is cancelled while its answer is being sent: two of its threads race for the
call's state (github.com/triton-inference-server/server, issue 8034, mended in pull request 8078). The embedded one is
older.
"""

import asyncio

import psutil

from load.faults.service import Service

DYING_SECONDS = 1.0  # from the signal until the process is gone, at most


class Watch:
    """On Triton's process, from now on."""

    def __init__(self, service: Service) -> None:
        self._launcher = service.launcher
        self._triton = service.triton
        self._lines = len(service.launcher.said)

    async def back_after_crash(self) -> bool:
        """Whether the process has ended; if so, wait until the launcher's next one is ready."""
        await asyncio.sleep(DYING_SECONDS)
        if self._triton.is_running() and self._triton.status() != psutil.STATUS_ZOMBIE:
            return False
        await asyncio.to_thread(self._launcher.wait_for_line, "ready after", self._lines)
        return True
