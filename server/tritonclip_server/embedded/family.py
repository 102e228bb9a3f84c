"""A program and all that it starts: one process group, which ends with whoever started it, however that ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tritonclip_server.embedded import hidden_arguments
from tritonclip_server.embedded.claim import Claim
from tritonclip_server.resources import PACKAGE

KILLED_SECONDS = 5.0  # for the kernel to end what was killed
# Whether what is being started shall end instead. Asked now and then: what a signal handler changes must need no lock.
Stopping = Callable[[], bool]
LINE_BYTES = 16 * 2**10  # longer lines of a program come in pieces


class Family:
    """A running program in the process group of a keeper. What it prints comes through `output`."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        hidden: Sequence[str] = (),
        warn: Callable[[str], object] = print,
        claim: Claim | None = None,
        folder: Path = PACKAGE.parent,
    ) -> None:
        """Start `command` in `folder`, with `hidden` arguments after its own.

        A `claim` is released by the keeper if need be.
        """
        names = [] if claim is None else [claim.identity, str(claim.folder)]
        self._keeper = subprocess.Popen(
            [sys.executable, "-E", "-S", "-m", "tritonclip_server.embedded.keeper", *names],
            cwd=PACKAGE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=() if claim is None else claim.descriptors,  # it holds the locks too
            process_group=0,
        )
        try:
            self._process = hidden_arguments.start(
                command,
                hidden,
                environment,
                warn,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=self._keeper.pid,
            )
        except BaseException:
            self._end(self._keeper)
            raise

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    @property
    def output(self) -> IO[bytes]:
        """What the program prints, to be read by `drain`."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        return self._process.stdout

    def poll(self) -> int | None:
        """The program's exit code; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask the program to finish what it has begun and end."""
        self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Whether the program has ended within `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def kill(self) -> None:
        """End all of them at once, and return when they have ended."""
        self._end(self._process, self._keeper)

    def _end(self, *own: "subprocess.Popen[bytes]") -> None:
        group = self._keeper.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        for process in own:
            process.wait()
        # The program's own children are ours once it has ended, where we are their reaper (`cli`), and else init's.
        deadline = time.monotonic() + KILLED_SECONDS
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                if os.waitpid(-group, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()


def never() -> bool:
    """For what nothing asks to stop."""
    return False


def drain(stream: IO[bytes], take: Callable[[str], None]) -> None:
    """Hand each line of a program's output to `take`, without its end, until there is no more; then close it."""
    with stream:
        while line := stream.readline(LINE_BYTES):
            take(line.decode(errors="replace").rstrip("\n"))
