"""What `tritonclip-server serve` runs: Triton, or one for each model, and a gateway; until asked to stop, or until one
dies too often.

start: Triton, one after the other ──ready──> gateway, and what it serves ──live──> greeting
stop:  gateway, which finishes what it has begun ──ended──> Triton
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from tritonclip_server.embedded.errors import ServeError, ServerDied
from tritonclip_server.embedded.family import Stopping
from tritonclip_server.embedded.gateway import Gateway
from tritonclip_server.embedded.server import Server

MAX_RESTARTS = 3
RESTART_WINDOW_SECONDS = 300.0
WATCH_SECONDS = 0.5

Say = Callable[[str], object]


class Launcher:
    """Servers and their gateway, if any."""

    def __init__(self, servers: Sequence[Server], make_gateway: Callable[[Stopping], Gateway] | None, say: Say) -> None:
        """`make_gateway` is called when the servers are ready; it may take its time, unless it shall stop."""
        self._stopping = False
        self._servers = servers
        self._make_gateway = make_gateway
        self._gateway: Gateway | None = None
        self._say = say

    def stop(self) -> None:
        """Have `run` end. Safe in a signal handler."""
        self._stopping = True

    def _is_stopping(self) -> bool:
        return self._stopping

    def run(self, greet: Callable[[Gateway | None], object]) -> None:
        """Serve until asked to stop; a ServeError says why that was not possible."""
        try:
            for server in self._servers:
                self._timed(server, server.start)
            if self._make_gateway is not None:
                self._gateway = self._make_gateway(self._is_stopping)
                self._start_gateway(self._gateway)
            greet(self._gateway)
            self._keep_serving()
        except ServeError:
            if not self._stopping:  # else what was asked to stop has ended, ready or not
                raise
        finally:
            if self._gateway is not None:
                self._gateway.stop()
            _stop_all(self._servers)

    def _timed(self, server: Server, start: Callable[[Stopping], None]) -> None:
        started = time.monotonic()
        start(self._is_stopping)
        which = f"{server.repository.name}  " if len(self._servers) > 1 else ""
        self._say(f"ready after {time.monotonic() - started:.1f} s: {which}{server.grpc_url}  {server.http_url}")

    def _start_gateway(self, gateway: Gateway) -> None:
        gateway.start(self._is_stopping)
        self._say(f"gateway ready: {gateway.url}")

    def _keep_serving(self) -> None:
        """Serve until asked to stop; start again what dies, Triton (or one of its processes) or the gateway."""
        triton_deaths, gateway_deaths = [Deaths() for _ in self._servers], Deaths()
        while not self._stopping:
            time.sleep(WATCH_SECONDS)
            if self._stopping:
                return
            for server, deaths in zip(self._servers, triton_deaths, strict=True):
                if reason := server.fault():
                    deaths.count(reason)
                    which = f" on {server.repository.name}" if len(self._servers) > 1 else ""
                    self._say(f"{_now()} error: {reason}; starting Triton{which} again")
                    self._timed(server, server.restart)
            if self._gateway is not None and (reason := self._gateway.fault()):
                gateway_deaths.count(reason)
                self._say(f"{_now()} error: {reason}; starting it again")
                self._gateway.stop()
                self._start_gateway(self._gateway)


def _stop_all(servers: Sequence[Server]) -> None:
    """Stop them all, at the same time: each may take its while, and none may be left because another fails."""
    with ThreadPoolExecutor(len(servers)) as pool:
        stopped = [pool.submit(server.stop) for server in servers]
    for each in stopped:
        each.result()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Deaths:
    """How often something died lately: what keeps dying is given up, so that whoever supervises this sees."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    def count(self, reason: str) -> None:
        """Count one more; ServerDied where that is one too many."""
        self._moments = [moment for moment in self._moments if moment > time.monotonic() - RESTART_WINDOW_SECONDS]
        self._moments.append(time.monotonic())
        if len(self._moments) > MAX_RESTARTS:
            times, window = len(self._moments), RESTART_WINDOW_SECONDS
            raise ServerDied(f"{reason}, for the {times}th time in {window:.0f} s: giving up")
