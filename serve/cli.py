"""The `python -m serve` command."""

import argparse
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from serve.errors import ServeError, ServerDied
from serve.gateway import Gateway, items_in_flight
from serve.greeting import greet
from serve.repository import check_repository
from serve.server import LOOPBACK, Ports, Server

DEFAULT_REPOSITORY = Path("build/models/demo")
DEFAULT_LOG = Path("build/triton.log")
MAX_RESTARTS = 3
RESTART_WINDOW_SECONDS = 300.0
WATCH_SECONDS = 0.5
# Where a process of a model has died: what waits for that one holds Triton's end up to no purpose, and nobody new is
# served meanwhile.
BROKEN_PATIENCE_SECONDS = 3.0


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="python -m serve",
        description="Run the embedded Triton server on what `python -m export VARIANT --host cpu` published.",
    )
    command.add_argument(
        "repository",
        nargs="?",
        type=Path,
        default=DEFAULT_REPOSITORY,
        metavar="REPOSITORY",
        help="the served repository (default: %(default)s)",
    )
    ports = Ports()
    command.add_argument("--http-port", type=int, default=ports.http, metavar="N", help="default: %(default)s; 0: any")
    command.add_argument("--grpc-port", type=int, default=ports.grpc, metavar="N", help="default: %(default)s; 0: any")
    command.add_argument(
        "--metrics-port", type=int, default=ports.metrics, metavar="N", help="default: %(default)s; 0: any"
    )
    command.add_argument(
        "--gateway-port",
        type=int,
        metavar="N",
        help="also start the gateway, on this port of loopback; 0: any (default: no gateway)",
    )
    command.add_argument(
        "--address",
        default=LOOPBACK,
        metavar="A",
        help="where to listen (default: %(default)s; this Triton is too old for an open network)",
    )
    command.add_argument(
        "--admin-key",
        default=os.environ.get("TRITONCLIP_ADMIN_KEY") or None,
        metavar="KEY",
        help="opens the operator's APIs (statistics, configuration, tracing, logging) to requests that "
        "carry it (default: TRITONCLIP_ADMIN_KEY)",
    )
    command.add_argument(
        "--log", type=Path, default=DEFAULT_LOG, metavar="FILE", help="Triton's own log (default: %(default)s)"
    )
    command.add_argument(
        "--greet",
        action="store_true",
        help="once ready, compare a sample picture with three sentences and print the scores",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command until a signal or Triton ends it; returns its exit code."""
    options = parser().parse_args(arguments)
    _allow_descriptors()
    try:
        return _serve(options)
    except ServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    manifest = check_repository(options.repository)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    server = Server(
        options.repository,
        Ports(options.http_port, options.grpc_port, options.metrics_port),
        address=options.address,
        admin_key=options.admin_key,
        log=options.log,
    )
    stopping = threading.Event()
    gateway: Gateway | None = None

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        if gateway is not None and gateway.running:
            gateway.terminate()  # first, so that what it has begun still finds Triton; the rest follows below
        else:
            server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if manifest.get("host") == "gpu":
        _say("warning: published for a GPU host and Triton 26.02 or later; here `compare` can hang under overload")
    _say(f"starting Triton on {options.repository} (log: {options.log})")
    try:
        _start(server)
        if options.gateway_port is not None:
            gateway = Gateway(server.grpc_url, options.gateway_port, items_in_flight(options.repository))
            _start_gateway(gateway)
        if manifest["random_weights"]:
            _say("RANDOM WEIGHTS: this shows how the server works; its answers mean nothing")
        if options.greet:
            greet(server.grpc_url, str(manifest["variant"]), gateway.url if gateway is not None else None)
        _keep_serving(server, gateway, stopping)
    except ServeError:
        if not stopping.is_set():  # else it was asked to stop before it was ready
            raise
    finally:
        if gateway is not None:
            gateway.stop()
        server.stop()
    return 0


def _allow_descriptors() -> None:
    """Let Triton and the gateway open as many files as the system allows: each connection is one.

    The usual soft limit is 1024, kept low for programs that use select(), which these do not.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start(server: Server) -> None:
    started = time.monotonic()
    server.start()
    _say(f"ready after {time.monotonic() - started:.1f} s: {server.grpc_url}  {server.http_url}")


def _start_gateway(gateway: Gateway) -> None:
    gateway.start()
    _say(f"gateway ready: {gateway.url}")


def _keep_serving(server: Server, gateway: Gateway | None, stopping: threading.Event) -> None:
    """Serve until asked to stop; start again what dies, Triton (or one of its processes) or the gateway."""
    triton_deaths, gateway_deaths = Deaths(), Deaths()
    while not stopping.is_set():
        time.sleep(WATCH_SECONDS)
        if (reason := server.fault()) and not stopping.is_set():
            triton_deaths.count(reason)
            _say(f"error: {reason}; starting Triton again")
            server.stop(BROKEN_PATIENCE_SECONDS)
            _start(server)
        if gateway is not None and (reason := gateway.fault()) and not stopping.is_set():
            gateway_deaths.count(reason)
            _say(f"error: {reason}; starting it again")
            gateway.stop()
            _start_gateway(gateway)


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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
