"""The `tritonclip-server serve` command."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tritonclip_server.embedded.environment import spare_from_proxies
from tritonclip_server.embedded.errors import ServeError
from tritonclip_server.embedded.family import Stopping
from tritonclip_server.embedded.gateway import Gateway, check_flags, gateway_flags, items_in_flight
from tritonclip_server.embedded.greeting import greet
from tritonclip_server.embedded.launcher import Launcher, Say
from tritonclip_server.embedded.outlet import Descriptor, Outlet
from tritonclip_server.embedded.ports import LOOPBACK, Ports, check_distinct, find_port, find_ports, reachable, resolve
from tritonclip_server.embedded.process import (
    adopt_orphans,
    allow_descriptors,
    hide_argument,
    open_standard_descriptors,
)
from tritonclip_server.embedded.repository import check_repository
from tritonclip_server.embedded.sample_index import NAME, build_sample_index
from tritonclip_server.embedded.server import Server

DEFAULT_REPOSITORY = Path("build/models/demo")
DEFAULT_LOG = Path("build/triton.log")
ADMIN_KEY = "TRITONCLIP_ADMIN_KEY"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server serve",
        description="Run the embedded Triton server on what `tritonclip-server export VARIANT --host cpu` published.",
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
        type=_admin_key,
        default=os.environ.get(ADMIN_KEY) or None,
        metavar="KEY",
        help="opens the operator's APIs (statistics, configuration, tracing, logging) to requests that "
        f"carry it (default: {ADMIN_KEY}, which other users of this machine cannot read)",
    )
    command.add_argument(
        "--log",
        type=Path,
        default=DEFAULT_LOG,
        metavar="FILE",
        help="Triton's own log; at 10 MiB it becomes FILE.1, and so on to FILE.4 (default: %(default)s)",
    )
    command.add_argument(
        "--gateway-flags",
        type=gateway_flags,
        default=[],
        metavar="'FLAGS'",
        help="options of `tritonclip-server gateway` for it, in one argument, such as \"--alias '*' --max-texts 4096\"",
    )
    command.add_argument(
        "--sample-index",
        type=Path,
        metavar="FOLDER",
        help=f"keep an index of the sample images there, for the gateway to search as `{NAME}` (default: none)",
    )
    command.add_argument(
        "--greet",
        action="store_true",
        help="once ready, compare a sample image with three sentences and print the scores",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command until a signal or Triton ends it; returns its exit code."""
    open_standard_descriptors()
    options = parser().parse_args(arguments)
    if options.admin_key is not None:
        hide_argument(options.admin_key)
    allow_descriptors()
    adopt_orphans()
    said, shown = Outlet(Descriptor(2), "standard error"), Outlet(Descriptor(1), "standard output")
    try:
        _serve(options, said.put, shown.put)
    except (ServeError, OSError) as error:
        said.put(f"error: {error}")
        return 1
    except KeyboardInterrupt:  # before anything was started
        return 128 + signal.SIGINT
    finally:
        shown.close()
        said.close()
    return 0


def _serve(options: argparse.Namespace, say: Say, show: Say) -> None:
    ports = Ports(options.http_port, options.grpc_port, options.metrics_port)
    address = _check_addresses(options.address, ports, options.gateway_port)
    if options.gateway_port is None and (options.gateway_flags or options.sample_index):
        option = "--gateway-flags" if options.gateway_flags else "--sample-index"
        raise ServeError(f"{option}: there is no gateway to give it to: add --gateway-port")
    if options.gateway_flags:
        check_flags(options.gateway_flags)
    manifest = check_repository(options.repository)
    os.environ |= spare_from_proxies(os.environ, reachable(address))
    server = Server(options.repository, ports, address, options.admin_key, options.log, say=say)

    index: Path | None = None

    def make_gateway(stopping: Stopping) -> Gateway:
        nonlocal index
        flags = options.gateway_flags
        fingerprint, folder = str(manifest.get("fingerprint")), options.sample_index
        if folder is not None and build_sample_index(folder, server.grpc_url, fingerprint, say, stopping):
            index, flags = folder, [*flags, "--index", f"{NAME}={folder}"]
        return Gateway(server.grpc_url, options.gateway_port, items_in_flight(options.repository), say, flags)

    def after_start(server: Server, gateway: Gateway | None) -> None:
        if manifest.get("random_weights"):
            say("RANDOM WEIGHTS: this shows how the server works; its answers mean nothing")
        if options.greet:
            url = gateway.url if gateway is not None else None
            greet(server.grpc_url, str(manifest.get("variant")), url, index, show)

    launcher = Launcher(server, make_gateway if options.gateway_port is not None else None, say)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, lambda *_: launcher.stop())
    if manifest.get("host") == "gpu":
        say("warning: published for a GPU host and Triton 26.02 or later; here `compare` can hang under overload")
    say(f"starting Triton on {options.repository} (log: {options.log})")
    launcher.run(after_start)


def _check_addresses(address: str, ports: Ports, gateway_port: int | None) -> str:
    """The IPv4 address to listen on; a ServeError where it or a port is wrong or taken, before a minute of loading."""
    check_distinct(ports, gateway_port)
    address = resolve(address)
    find_ports(address, ports)
    if gateway_port is not None:
        find_port(LOOPBACK, gateway_port)
    return address


def _admin_key(text: str) -> str:
    """A key as a header can carry it."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("it must be of ASCII letters, digits and signs, without blanks")
    return text
