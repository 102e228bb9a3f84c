"""The client's settings: argument > environment > default. The only module that reads the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tritonclip import _defaults
from tritonclip._errors import ConfigError
from tritonclip.protocol.names import NAME_RULE, is_name
from tritonclip.protocol.proxies import Proxy, proxy_of

URL_VARIABLE = "TRITONCLIP_URL"
MODEL_VARIABLE = "TRITONCLIP_MODEL"
ADMIN_KEY_VARIABLE = "TRITONCLIP_ADMIN_KEY"
TOKEN_VARIABLE = "TRITONCLIP_TOKEN"  # noqa: S105 - where it is, not what it is
CA_FILE_VARIABLE = "TRITONCLIP_CA_FILE"
CERTIFICATE_VARIABLE = "TRITONCLIP_CLIENT_CERTIFICATE"
KEY_VARIABLE = "TRITONCLIP_CLIENT_KEY"
REQUEST_ID = "x-request-id"  # the header whose value is also the id of an inference

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_VALUE = re.compile(r"[!-~]+(?:[ \t]+[!-~]+)*")
# What the transports say themselves, and what belongs to a connection rather than to a request.
_RESERVED = frozenset(
    {"accept-encoding", "admin-key", "connection", "content-encoding", "content-length", "content-type", "expect",
     "host", "inference-header-content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
     "triton-grpc-protocol-admin-key", "user-agent"}
)  # fmt: skip


@dataclass(frozen=True)
class ServerUrl:
    """A server's address, checked: ``scheme://host:port/path`` (a path for HTTP alone).

    ``model`` is the name of the one that is meant of several which the server carries, as ``?model=`` says it.
    ``others`` are hosts and ports of further servers that serve the same: ``scheme://host:port,host:port/path``.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    model: str | None = None
    others: tuple[tuple[str, int], ...] = ()

    @property
    def is_grpc(self) -> bool:
        """Whether the server is reached over gRPC (else over HTTP)."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def authority(self) -> str:
        """``host:port``, with the brackets that an IPv6 address needs; of several servers, with commas between."""
        addresses = ((self.host, self.port), *self.others)
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)

    @property
    def each(self) -> "tuple[ServerUrl, ...]":
        """The URL of each server alone."""
        alone = replace(self, others=())
        return (alone, *(replace(alone, host=host, port=port) for host, port in self.others))

    @property
    def server(self) -> str:
        """The URL of the server itself, or of all of them, whichever of the models is meant."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def __str__(self) -> str:
        return self.server if self.model is None else f"{self.server}?model={self.model}"


@dataclass(frozen=True)
class Connection:
    """How a server is reached, or several, and as whom. What is secret here is never shown."""

    url: ServerUrl
    admin_key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # names in lower case; the token's is one
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    proxy: Proxy | None = None


def resolve_connection(
    url: str | None = None,
    *,
    model: str | None = None,
    admin_key: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    client_certificate: str | os.PathLike[str] | None = None,
    client_key: str | os.PathLike[str] | None = None,
) -> Connection:
    """The connection that arguments and environment describe; raises ConfigError where it makes no sense."""
    server = resolve_url(url, model)
    given = {"ca_file": ca_file, "client_certificate": client_certificate, "client_key": client_key}
    if not server.is_secure and (unused := [name for name, value in given.items() if value is not None]):
        raise ConfigError(f"{unused[0]} is for grpcs:// and https://, and {server} is not encrypted")
    files = {}
    if server.is_secure:
        files = {
            "ca_file": _file("ca_file", ca_file, CA_FILE_VARIABLE, "SSL_CERT_FILE"),
            "client_certificate": _file("client_certificate", client_certificate, CERTIFICATE_VARIABLE),
            "client_key": _file("client_key", client_key, KEY_VARIABLE),
        }
    if files.get("client_key") and not files["client_certificate"]:
        raise ConfigError("client_key needs a client_certificate")
    return Connection(
        server,
        admin_key=resolve_admin_key(admin_key),
        headers=_headers(headers or {}, token or os.environ.get(TOKEN_VARIABLE) or None),
        proxy=proxy_of(server.scheme, server.host, server.port),
        **files,
    )


def each_server(connection: Connection) -> list[Connection]:
    """A connection to each server that the URL names. Each has its own proxy, or none."""
    if not connection.url.others:
        return [connection]
    urls = connection.url.each
    return [replace(connection, url=url, proxy=proxy_of(url.scheme, url.host, url.port)) for url in urls]


def resolve_url(url: str | None, model: str | None = None) -> ServerUrl:
    """The server to talk to, from the argument, else TRITONCLIP_URL, else the default.

    Which of its models is meant, the argument says, else the URL, else TRITONCLIP_MODEL. Raises ConfigError where the
    URL or the name cannot be used.
    """
    server = parse_url(url or os.environ.get(URL_VARIABLE) or _defaults.URL)
    name = model or server.model or os.environ.get(MODEL_VARIABLE)
    return replace(server, model=_check_name(name)) if name else server


def resolve_admin_key(key: str | None) -> str | None:
    """The key for restricted calls, from the argument, else TRITONCLIP_ADMIN_KEY; else none."""
    key = key or os.environ.get(ADMIN_KEY_VARIABLE) or None
    if key is not None:
        _check_value("admin_key", key)
    return key


def parse_url(url: str) -> ServerUrl:
    """Check a URL and fill in its ports."""
    head, slashes, rest = url.partition("//")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "," not in authority or "@" in authority:
        return _parse_one(url)
    tail = rest[len(authority) :]
    first, *others = (_parse_one(f"{head}{slashes}{address}{tail}") for address in authority.split(","))
    addresses = tuple((each.host, each.port) for each in others)
    if len({(first.host, first.port), *addresses}) <= len(addresses):
        raise ConfigError(f"{url!r} is not a server URL: it names a server twice")
    return replace(first, others=addresses)


def _parse_one(url: str) -> ServerUrl:
    wanted = "expected grpc://HOST:PORT, grpcs://…, http://… or https://…, with commas between several HOST:PORT"
    shown = re.sub(r"//[^/?#]*@", "//", url)  # what stands before an @ may be a password
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{shown!r} is not a server URL ({exc}): {wanted}") from None
    if parts.scheme not in _defaults.PORTS or not parts.hostname:
        raise ConfigError(f"{shown!r} is not a server URL: {wanted}")
    path = parts.path.rstrip("/")
    if "@" in parts.netloc or parts.fragment or (path and parts.scheme.startswith("grpc")):
        raise ConfigError(f"{shown!r} had parts that a server URL cannot have: {wanted}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if [key for key, _ in query] not in ([], ["model"]):
        raise ConfigError(f"{shown!r}: all that a server URL can ask for is ?model=NAME")
    model = _check_name(query[0][1]) if query else None
    return ServerUrl(parts.scheme, parts.hostname, port or _defaults.PORTS[parts.scheme], path, model)


def _check_name(model: str) -> str:
    if not isinstance(model, str) or not is_name(model):
        raise ConfigError(f"model: {model!r} is no name that a model is published by: {NAME_RULE}")
    return model


def _file(name: str, given: str | os.PathLike[str] | None, *variables: str) -> Path | None:
    """A file by argument or environment; whether it can be read is known at once, not at the first request."""
    for source, value in [(name, given), *((variable, os.environ.get(variable)) for variable in variables)]:
        if value:
            path = Path(value)
            try:
                path.open("rb").close()
            except (OSError, ValueError) as exc:
                raise ConfigError(f"{source}: cannot read {value}: {getattr(exc, 'strerror', None) or exc}") from exc
            return path
    return None


def check_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Headers that a request may carry, their names in lower case; ConfigError for those that it may not."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"headers: expected a mapping of names to values, got {type(given).__name__}")
    headers: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"headers: {name!r} is not the name of a header")
        key = name.lower()
        if key in _RESERVED or key.startswith("grpc-") or key.endswith("-bin"):
            raise ConfigError(f"headers: {name} cannot be set: it belongs to the transport")
        if key in headers:
            raise ConfigError(f"headers: {name} is there twice")
        headers[key] = _check_value(f"headers: {name}", value)
    return headers


def _headers(given: Mapping[str, str], token: str | None) -> tuple[tuple[str, str], ...]:
    headers = check_headers(given)
    if token is not None:
        if "authorization" in headers:
            raise ConfigError("give either a token or an Authorization header")
        headers["authorization"] = f"Bearer {_check_value('token', token)}"
    return tuple(headers.items())


def _check_value(name: str, value: str) -> str:
    # One rule for all transports: gRPC takes no other characters than these. The value itself may be a secret.
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ConfigError(f"{name}: expected visible ASCII characters, on one line, without blanks at either end")
    return value
