"""The gateway as a child of the launcher: started once Triton is ready, watched like it, and ended before it.

A program of its own, reached by its command alone: the gateway also runs where there is no embedded Triton.
"""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from serve.errors import ServerDied
from serve.repository import encoder_queue
from serve.server import LOOPBACK, die_with_parent, find_port

STARTUP_SECONDS = 60.0
STOP_SECONDS = 40.0  # it drains: the longest request may still end
# One request may bring as many; and a CPU serves what it can serve with fewer at work.
MOST_ITEMS_IN_FLIGHT = 64
ROOT = Path(__file__).resolve().parents[1]


def items_in_flight(repository: Path) -> int:
    """What a gateway before this served repository lets in.

    Three times what the image encoder's queue holds, since each of two executions takes as many. What Triton refused
    for a full queue, the gateway would only ask for again, and have decoded again. A queue of 0 has no limit.
    """
    return min(3 * encoder_queue(repository) or MOST_ITEMS_IN_FLIGHT, MOST_ITEMS_IN_FLIGHT)


class Gateway:
    """A running gateway in front of a Triton server. 0 stands for any free port until it starts.

    Start it from a thread that outlives it: the kernel ends it with the thread that started it.
    """

    def __init__(self, triton_url: str, port: int, items_in_flight: int = MOST_ITEMS_IN_FLIGHT) -> None:
        self.port = port
        self._items_in_flight = items_in_flight
        self._triton_url = triton_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "Gateway":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return once it answers; a ServeError says why it does not, and leaves nothing running."""
        self.port = find_port(LOOPBACK, self.port)
        command = [sys.executable, "-m", "gateway", "--host", LOOPBACK, "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--url", self._triton_url, "--max-items-in-flight", str(self._items_in_flight)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which lets it drain
            preexec_fn=die_with_parent,
        )
        try:
            self._wait_until_live()
        except BaseException:
            self.stop()
            raise

    def fault(self) -> str | None:
        """Why it can no longer be trusted; None while it can."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else f"the gateway ended with code {code}"

    def terminate(self) -> None:
        """Ask it to finish what it has begun and end. Safe in a signal handler."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it, gently and then for certain."""
        if self._process is None:
            return
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.wait()

    def _wait_until_live(self) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if reason := self.fault():
                raise ServerDied(f"{reason} before it answered")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/live", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
        raise ServerDied(f"the gateway did not answer within {STARTUP_SECONDS:.0f} s")
