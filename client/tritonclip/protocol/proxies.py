"""Which proxy stands between here and a server, as the environment says it; never one before a loopback address.

    gRPC    grpc_proxy, https_proxy, http_proxy; no_grpc_proxy, no_proxy      (gRPC's own rules)
    HTTP    http_proxy or https_proxy, else all_proxy; no_proxy               (as most programs; capitals too)

The transports are told the outcome and read nothing themselves, so that all of them agree and an error can name it.
"""

import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tritonclip._errors import ConfigError

_VARIABLES = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "grpc": ("grpc_proxy", "https_proxy", "http_proxy"),
    "grpcs": ("grpc_proxy", "https_proxy", "http_proxy"),
}
_GRPC_SCHEMES = ("http",)
_HTTP_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class Proxy:
    """A proxy: its URL, which may hold a password, and how messages call it, which does not."""

    url: str = field(repr=False)
    name: str


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name: ``localhost``, names below it, and loopback addresses."""
    name = host.lower().rstrip(".").strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def proxy_of(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a server, None where it is reached directly; raises ConfigError for one that cannot be used."""
    if is_loopback(host):
        return None
    is_grpc = scheme.startswith("grpc")
    exceptions = [_variable(name, is_grpc) for name in (("no_grpc_proxy", "no_proxy") if is_grpc else ("no_proxy",))]
    if _is_excepted(host, port, next(filter(None, exceptions), "")):
        return None
    for variable in _VARIABLES[scheme]:
        if value := _variable(variable, is_grpc):
            return _parse(variable, value, _GRPC_SCHEMES if is_grpc else _HTTP_SCHEMES)
    return None


def _variable(name: str, is_grpc: bool) -> str | None:
    value = os.environ.get(name)
    # Programs of HTTP also take capitals; HTTP_PROXY may be a request's own header where this runs as a CGI script.
    if value is None and not is_grpc and not (name == "http_proxy" and "REQUEST_METHOD" in os.environ):
        value = os.environ.get(name.upper())
    return value


def _parse(variable: str, value: str, schemes: tuple[str, ...]) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{variable} is not the URL of a proxy") from None  # the cause would show its password
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    name = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if not parts.hostname or parts.scheme not in schemes:
        wanted = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)
        raise ConfigError(f"{variable}: expected {wanted}; no_proxy names hosts that are reached without a proxy")
    return Proxy(url, name)


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    name = host.lower().rstrip(".")
    address = _address(name)
    for entry in (part.strip().lower() for part in exceptions.split(",")):
        if entry == "*":
            return True
        entry_host, _, entry_port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        if entry_port and entry_port != str(port):
            continue
        wanted = entry_host.strip("[]").removeprefix("*").lstrip(".")
        if wanted and (name == wanted or (address is None and name.endswith(f".{wanted}"))):
            return True
        if address is not None and _contains(wanted, address):
            return True
    return False


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return getattr(address, "ipv4_mapped", None) or address
    with suppress(OSError):  # 127.1 and 0x7f000001, which resolvers take
        return ipaddress.IPv4Address(socket.inet_aton(name))
    return None


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
