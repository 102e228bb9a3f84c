"""The gateway as a child of the launcher: started once Triton is ready, watched like it, and ended before it.

A program of its own, reached by its command alone: the gateway also runs where there is no embedded Triton.
"""

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from tritonclip_server.embedded.errors import ServeError, ServerDied, Stopped
from tritonclip_server.embedded.family import Family, Stopping, drain, never
from tritonclip_server.embedded.ports import LOOPBACK, find_port
from tritonclip_server.embedded.repository import encoder_queue

STARTUP_SECONDS = 60.0
STOP_SECONDS = 40.0  # it drains: the longest request may still end
# Images, or four times as many texts: the most images that one request may bring. What comes beyond them waits in the
# gateway, and a CPU serves what it can serve with fewer at work.
MOST_ITEMS_IN_FLIGHT = 64


def items_in_flight(repository: Path) -> int:
    """How many images a gateway before this served repository has at work, or four times as many texts.

    Three times what the image encoder's queue holds, since each of two executions takes as many. What Triton refused
    for a full queue, the gateway would only ask for again, and have decoded again; where it waits instead, nothing is
    decoded yet. A queue of 0 has no limit.
    """
    return min(3 * encoder_queue(repository) or MOST_ITEMS_IN_FLIGHT, MOST_ITEMS_IN_FLIGHT)


def gateway_flags(text: str) -> list[str]:
    """The options of a gateway in one argument, parted as a shell does; ArgumentTypeError for those that are ours."""
    try:
        flags = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    for flag in flags:
        name = flag.partition("=")[0]
        if name in ("--host", "--port", "--url"):
            raise argparse.ArgumentTypeError(f"{name} is this command's own to say; the port is --gateway-port")
    return flags


def check_flags(flags: Sequence[str], names: Sequence[str] = ()) -> None:
    """Have the gateway look at its options before anything is started; ServeError with its own words against them.

    `names` are those of the models that it will serve, which options may name.
    """
    urls = [f"--url={name}=grpc://{LOOPBACK}" for name in names if name]
    command = [sys.executable, "-m", "tritonclip_server", "gateway", "--check", *urls, *flags]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it does not start"]
        raise ServeError(f"--gateway-flags: {said[-1].partition('error: ')[2] or said[-1]}")


class Gateway:
    """A running gateway in front of Triton servers. 0 stands for any free port until it starts."""

    def __init__(
        self,
        urls: Sequence[str],
        port: int,
        items_in_flight: int = MOST_ITEMS_IN_FLIGHT,
        say: Callable[[str], object] = print,
        flags: Sequence[str] = (),
    ) -> None:
        """`urls` are those of the servers, as the gateway's `--url` takes them.

        `say` gets the lines that the gateway prints; `flags` are options of it, which win over our own.
        """
        self.port = port
        self._items_in_flight = items_in_flight
        self._urls = urls
        self._say = say
        self._flags = flags
        self._family: Family | None = None
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> "Gateway":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, stopping: Stopping = never) -> None:
        """Start it and return once it answers; a ServeError says why it does not, and leaves nothing running.

        Stopped is raised where `stopping` says meanwhile that it shall end.
        """
        self.port = find_port(LOOPBACK, self.port)
        command = [sys.executable, "-m", "tritonclip_server", "gateway", "--host", LOOPBACK, "--port", str(self.port)]
        command += [f"--url={url}" for url in self._urls]
        command += ["--max-items-in-flight", str(self._items_in_flight), *self._flags]
        self._family = Family(command, os.environ, folder=Path.cwd())  # paths among its options are written there
        self._reader = threading.Thread(
            target=drain, args=(self._family.output, self._say), name="gateway-log", daemon=True
        )
        self._reader.start()
        try:
            self._wait_until_live(stopping)
        except BaseException:
            self.stop(patience=0)
            raise

    def fault(self) -> str | None:
        """Why it can no longer be trusted; None while it can."""
        code = None if self._family is None else self._family.poll()
        return None if code is None else f"the gateway ended with code {code}"

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """End it, gently and then for certain: what has begun may still be answered within `patience` seconds."""
        if self._family is None:
            return
        if patience:
            self._family.terminate()
            self._family.wait(patience)
        self._family.kill()
        if self._reader is not None:
            self._reader.join(timeout=5)
        self._family = None

    def _wait_until_live(self, stopping: Stopping) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if stopping():
                raise Stopped("asked to stop before the gateway answered")
            if reason := self.fault():
                raise ServerDied(f"{reason} before it answered")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/live", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
        raise ServerDied(f"the gateway did not answer within {STARTUP_SECONDS:.0f} s")
