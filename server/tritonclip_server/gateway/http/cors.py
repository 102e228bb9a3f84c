"""Pages of other origins: which of them may use the gateway, and what a browser has to be told for that (CORS).

A browser sends another origin's request, or asks first whether it may (the preflight), and shows the page the answer
only where that names the page's origin. So every answer does, errors among them, and a preflight, which can hold no
key, is answered before a key is asked for. What a page that may not is shown ("Failed to fetch") has no reason in it:
the log has the option that lets it in, once for each origin. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import logging
import re
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tritonclip import ConfigError
from tritonclip_server.gateway.http.request_context import context_of, has_body

ANY = "*"
METHODS = "GET, HEAD, POST"
EXPOSED = ", ".join(
    (
        "x-request-id", "x-model-fingerprint", "x-truncated", "x-activation", "retry-after", "retry-after-ms",
        *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "images") for what in ("limit", "remaining", "reset")),
    )
)  # fmt: skip
PREFLIGHT_SECONDS = 7200  # for which a browser need not ask again: the most that Chromium heeds
HINTED_ORIGINS = 100  # of the log; callers can make up any number

_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~ ,-]{1,4096}", re.ASCII)
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<host>[a-z0-9_.-]{1,253}|\[[0-9a-f:]{2,39}\])(:(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}  # which browsers leave out

log = logging.getLogger("gateway")


def parse_origin(text: str) -> str:
    """An origin as browsers send it, or "*"; ConfigError where it is none."""
    if text == ANY:
        return text
    found = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if found is None or int(found["port"] or 1) not in range(1, 2**16):
        message = "an origin reads https://app.example or http://localhost:3000; * is any"
        raise ConfigError(f"--allow-origin {text}: {message}")
    origin = f"{found['scheme']}://{found['host']}"
    is_default = found["port"] is None or int(found["port"]) == _DEFAULT_PORTS.get(found["scheme"])
    return origin if is_default else f"{origin}:{int(found['port'])}"


def is_allowed(origin: str, origins: frozenset[str]) -> bool:
    """Whether a page of this origin may use the gateway."""
    return ANY in origins or origin.lower() in origins


class CorsMiddleware:
    """Lets the pages of some origins in, and answers their preflights; of others it only says how to let them in."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = origins
        self._hinted: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        headers = context.request_headers
        origin = headers.get("origin")
        if self._origins and ANY not in self._origins:
            context.headers["vary"] = "origin"  # what is kept of an answer to one page is none for another
        if origin is not None and is_allowed(origin, self._origins):
            context.headers["access-control-allow-origin"] = ANY if ANY in self._origins else origin
            context.headers["access-control-expose-headers"] = EXPOSED
            preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
            if preflight and not has_body(headers):
                await Response(status_code=204, headers=_permission(headers))(scope, receive, send)
                return
        elif origin is not None:
            self._hint(origin, headers)
        await self._app(scope, receive, send)

    def _hint(self, origin: str, headers: Mapping[str, str]) -> None:
        """Say once how a page is let in. An origin's form leaves no room for anything else in the line."""
        own = (
            headers.get("sec-fetch-site") == "same-origin"
            or origin.lower().partition("://")[2] == headers.get("host", "").lower()
        )
        if own or origin in self._hinted or len(self._hinted) >= HINTED_ORIGINS:
            return
        if origin != "null" and not _ORIGIN.fullmatch(origin):
            return
        self._hinted.add(origin)
        shown = f"'{ANY}'" if origin == "null" else origin
        log.warning("a page of origin %s asks, and its browser keeps answers from it: --allow-origin %s", origin, shown)


def _permission(headers: Mapping[str, str]) -> dict[str, str]:
    """What a preflight is told. It names the headers that a page will send, which differ between libraries."""
    asked = headers.get("access-control-request-headers", "")
    names = asked if _HEADER_NAMES.fullmatch(asked) else "authorization, content-type"
    permission = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": names,
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    if headers.get("access-control-request-private-network") == "true":  # a public page asks a gateway on this machine
        permission["access-control-allow-private-network"] = "true"
    return permission
