"""The `tritonclip-server serve` command."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tritonclip.protocol.connection import MODEL_VARIABLE
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
    open_standard_descriptors,
)
from tritonclip_server.embedded.repository import check_repositories, model_names
from tritonclip_server.embedded.sample_index import NAME, build_sample_index
from tritonclip_server.embedded.server import Server

DEFAULT_REPOSITORY = Path("build/models/demo")
FREE_PORTS = Ports(0, 0, 0)
DEFAULT_LOG = Path("build/triton.log")
ADMIN_KEY = "TRITONCLIP_ADMIN_KEY"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server serve",
        description="Run the embedded Triton server on what `tritonclip-server export VARIANT --host cpu` published.",
    )
    command.add_argument(
        "repositories",
        nargs="*",
        type=Path,
        default=[DEFAULT_REPOSITORY],
        metavar="REPOSITORY",
        help="the served repository, or a folder of several, all served by one Triton (default: "
        f"{DEFAULT_REPOSITORY}); where more are given, each has a Triton of its own, the first on the ports below and "
        "the others on free ones. The gateway serves all of them",
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
        help="opens the operator's APIs (statistics, model control, configuration, tracing, logging) to requests that "
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
    groups = [check_repositories(folder) for folder in options.repositories]
    served = [deployed for group in groups for deployed in group]
    names = model_names(served)
    if options.gateway_flags:
        check_flags(options.gateway_flags, names)
    os.environ |= spare_from_proxies(os.environ, reachable(address))
    os.environ.pop(MODEL_VARIABLE, None)  # which model is meant is said here, of each
    servers = [
        Server(folder, FREE_PORTS if n else ports, address, options.admin_key, log_of(options.log, n), say=say)
        for n, folder in enumerate(options.repositories)
    ]
    index: Path | None = None

    def urls() -> list[str]:
        """Where each model is reached; on any free port, once its server is started."""
        pairs = zip(servers, groups, strict=True)
        return [deployed.at(server.grpc_url) for server, group in pairs for deployed in group]

    def make_gateway(stopping: Stopping) -> Gateway:
        nonlocal index
        flags = options.gateway_flags
        first, folder = str(served[0].manifest["fingerprint"]), options.sample_index
        if folder is not None and build_sample_index(folder, urls()[0], first, say, stopping):
            index, flags = folder, [*flags, "--index", f"{NAME}={folder}"]
        named = [f"{name}={url}" if name else url for name, url in zip(names, urls(), strict=True)]
        places = min(items_in_flight(deployed.folder) for deployed in served)
        return Gateway(named, options.gateway_port, places, say, flags)

    def after_start(gateway: Gateway | None) -> None:
        if any(deployed.manifest["random_weights"] for deployed in served):
            say("RANDOM WEIGHTS: this shows how the server works; its answers mean nothing")
        if options.greet:
            url = gateway.url if gateway is not None else None
            models = dict(zip(names, urls(), strict=True))
            greet(urls()[0], str(served[0].manifest["variant"]), url, index, show, models)

    launcher = Launcher(servers, make_gateway if options.gateway_port is not None else None, say)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, lambda *_: launcher.stop())
    if any(deployed.manifest["host"] == "gpu" for deployed in served):
        say("warning: published for a GPU host and Triton 26.02 or later; here `compare` can hang under overload")
    models = f", with {', '.join(names)}" if len(names) > 1 else ""
    say(f"starting Triton on {', '.join(map(str, options.repositories))}{models} (log: {options.log})")
    launcher.run(after_start)


def log_of(first: Path, number: int) -> Path:
    """The log of each server: of the second `triton-2.log` beside the first's `triton.log`, and so on.

    /dev/stdout and the like are shared.
    """
    if number == 0 or first.parent == Path("/dev"):
        return first
    return first.with_stem(f"{first.stem}-{number + 1}")


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
