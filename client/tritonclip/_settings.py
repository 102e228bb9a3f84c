"""The client's settings: argument > environment > default. The only module that reads the environment."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from tritonclip import _defaults
from tritonclip._errors import ConfigError

URL_VARIABLE = "TRITONCLIP_URL"
ADMIN_KEY_VARIABLE = "TRITONCLIP_ADMIN_KEY"


@dataclass(frozen=True)
class ServerUrl:
    """A server's address, checked: ``scheme://host:port/path`` (a path for HTTP alone)."""

    scheme: str
    host: str
    port: int
    path: str = ""

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
        """``host:port``, with the brackets that an IPv6 address needs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def resolve_url(url: str | None) -> ServerUrl:
    """The server to talk to, from the argument, else TRITONCLIP_URL, else the default.

    Raises ConfigError where the URL cannot be used.
    """
    return parse_url(url or os.environ.get(URL_VARIABLE) or _defaults.URL)


def resolve_admin_key(key: str | None) -> str | None:
    """The key for restricted calls, from the argument, else TRITONCLIP_ADMIN_KEY; else none."""
    return key or os.environ.get(ADMIN_KEY_VARIABLE) or None


def parse_url(url: str) -> ServerUrl:
    """Check a URL and fill in its port."""
    wanted = "expected grpc://HOST:PORT, grpcs://…, http://… or https://…"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{url!r} is not a server URL ({exc}): {wanted}") from exc
    if parts.scheme not in _defaults.PORTS or not parts.hostname:
        raise ConfigError(f"{url!r} is not a server URL: {wanted}")
    path = parts.path.rstrip("/")
    if parts.username or parts.query or parts.fragment or (path and parts.scheme.startswith("grpc")):
        raise ConfigError(f"{url!r} has parts a server URL cannot have: {wanted}")
    return ServerUrl(parts.scheme, parts.hostname, port or _defaults.PORTS[parts.scheme], path)
