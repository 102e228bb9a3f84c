"""Where the server listens: ports and an address, checked before anything is started on them."""

import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import psutil

from tritonclip_server.embedded.errors import AddressProblem, PortInUse

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - recognised, not chosen
CHOOSE = "--http-port, --grpc-port, --metrics-port and --gateway-port"


@dataclass(frozen=True)
class Ports:
    """Where the server listens; 0 stands for any free port until the server starts."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


DEFAULT_PORTS = Ports()


def find_ports(address: str, ports: Ports) -> Ports:
    """The ports, with a free one in place of each 0; PortInUse where another program listens on one."""
    with contextlib.ExitStack() as held:  # all at once, or the same free port could be found twice
        found = {
            name: _find_port(held.enter_context(socket.socket()), address, port)
            for name, port in asdict(check_distinct(ports)).items()
        }
    return replace(ports, **found)


def find_port(address: str, port: int) -> int:
    """The port, or a free one in place of 0; PortInUse where another program listens on it."""
    with socket.socket() as probe:
        return _find_port(probe, address, port)


def are_listened_on(ports: Ports, process: int) -> bool:
    """Whether a process listens on all of them; True, too, where this machine does not tell."""
    try:
        found = psutil.Process(process).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN} >= {*asdict(ports).values()}


def check_distinct(ports: Ports, gateway: int | None = None) -> Ports:
    """The ports; AddressProblem where two of them, or of them and the gateway's, are the same."""
    named: Mapping[str, int] = {**asdict(ports), **({} if gateway is None else {"gateway": gateway})}
    owners: dict[int, str] = {}
    for name, port in named.items():
        if port and (other := owners.setdefault(port, name)) != name:
            raise AddressProblem(f"{other} and {name} cannot both listen on port {port}: choose others with {CHOOSE}")
    return ports


def resolve(address: str) -> str:
    """The IPv4 address of an address or a host name; AddressProblem where it has none."""
    try:
        return socket.gethostbyname(address or " ")  # an empty one would stand for all addresses
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AddressProblem(f"{address!r} is no IPv4 address and no name of this machine ({reason})") from error


def reachable(address: str) -> str:
    """Where this machine reaches what listens on `address`."""
    return LOOPBACK if address == ANY_ADDRESS else address


def _find_port(probe: socket.socket, address: str, port: int) -> int:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no listener
    try:
        probe.bind((address, port))
    except OverflowError as error:
        raise AddressProblem(f"{port} is no port: they go from 1 to 65535, and 0 stands for any free one") from error
    except OSError as error:
        where = f"cannot listen on {address}:{port} ({os.strerror(error.errno or errno.EINVAL)})"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"{where}: another server may be running there; stop it, or choose other ports with {CHOOSE}"
            ) from error
        raise AddressProblem(f"{where}: choose another address with --address, or other ports with {CHOOSE}") from error
    return int(probe.getsockname()[1])
