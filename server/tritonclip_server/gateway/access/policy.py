"""Who may ask at all: which paths need no key, and, where no keys are set, which pages and names may ask.

Both are lists of what is allowed. A path that is spelt in any other way than an open one needs a key, whatever it leads
to. A gateway that listens without keys, which it does on loopback alone, answers nobody who came by a foreign name or
from a foreign page.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

from tritonclip_server.gateway.http.cors import is_allowed

# Health and metrics are for what watches the gateway, the page has to be there before a key can be typed into it, and
# the document describes what is public anyway.
OPEN_PATHS = frozenset(
    {
        "/", "/page.css", "/page.js", "/search.js", "/metrics", "/openapi.json",
        "/health", "/health/live", "/health/ready", "/v1/health", "/v1/health/live", "/v1/health/ready",
        "/.well-known/live", "/.well-known/ready",
    }
)  # fmt: skip


def is_open(scope: Scope) -> bool:
    """Whether a request needs no key: one that reads an open path. There are paths that are read and written to."""
    return scope["method"] in ("GET", "HEAD") and split_path(scope)[1] in OPEN_PATHS


def split_path(scope: Scope) -> tuple[str, str]:
    """The prefix that an application is mounted at, as far as the path has it, and the path as the router takes it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):  # some servers put the prefix before the path, some not
        return root, path[len(root) :]
    return "", path


def foreign(
    method: str, headers: Mapping[str, str], own_host: str, origins: frozenset[str] = frozenset()
) -> str | None:
    """What betrays that another site's page asks, by its form, script or name; None where nothing does.

    Browsers let any page send forms to loopback, and a name that its owner resolves to 127.0.0.1 makes answers readable
    too (DNS rebinding). They tell by `Host`, `Origin` and `Sec-Fetch-Site`, which no page can forge; programs that are
    no browsers send the first alone. `own_host` is the name the gateway was told to listen on, and `origins` are those
    whose pages it was told to let in.
    """
    host = headers.get("host")
    if host is not None and not _is_own(f"//{host}", own_host):
        return "Host"
    origin = headers.get("origin")
    if origin is not None:
        return None if _is_own(origin, own_host) or is_allowed(origin, origins) else "Origin"
    # Following a link to the page is no attack: the site that has the link cannot read what it leads to.
    followed = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site") == "cross-site" and not followed:
        return "Sec-Fetch-Site"
    return None


def _is_own(url: str, own_host: str) -> bool:
    """Whether a URL's host is this machine, by any name that only this machine can have. Ports do not matter."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if host is None or parts.scheme not in ("", "http", "https"):
        return False
    if host in ("localhost", own_host.lower()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
