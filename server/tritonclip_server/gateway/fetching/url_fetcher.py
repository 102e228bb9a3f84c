"""Images fetched from URLs, with nothing of this network within reach of whoever names the URL.

    URL ─check─> host, resolved once ─every address public?─> connection to that very address ─> status, size, bytes
     └──────────────────────── redirect: the same again, from the start ────────────────────┘

The address is pinned: TLS and the Host header still carry the name, but no second look-up can lead elsewhere. Nothing
of what a refused server answered is repeated to the caller. Whether it is an image, its bytes say, not its type.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx
import idna

from tritonclip_server.gateway.content.data_urls import data_url
from tritonclip_server.gateway.content.image_signatures import kind_of, looks_like_image
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.ssrf import Address, is_public
from tritonclip_server.gateway.settings import UrlImages

Resolve = Callable[[str, int], Awaitable[list[Address]]]
Grow = Callable[[int], None]
"""Called with the bytes that have come; raises ApiError where they are too many."""

PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_URL_CHARACTERS = 2048
_URL = re.compile(r"[\0-\x20]{0,99}[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE | re.ASCII)  # not all of a base64
# Look-ups of their own: a name server that is silent must not take the threads in which bodies are decoded.
_RESOLVERS = ThreadPoolExecutor(64, "resolver")


def is_url(source: bytes | str) -> bool:
    """Whether an image was given by its URL, of whatever scheme."""
    return isinstance(source, str) and _URL.match(source) is not None and data_url(source) is None


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host name, by the system's resolver."""
    look_up = asyncio.get_running_loop().run_in_executor
    found = await look_up(_RESOLVERS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


class UrlFetcher:
    """Fetches images for requests; a refusal is an ApiError that names the item.

    `resolve_host` and `allowed` are the network's edge; tests put their own in.
    """

    def __init__(
        self,
        options: UrlImages,
        max_bytes: int,
        *,
        resolve_host: Resolve = resolve,
        allowed: Callable[[Address], bool] = is_public,
    ) -> None:
        self._options = options
        self._hosts = None if options.hosts is None else frozenset(map(_ascii_host, options.hosts))
        self._max_bytes = max_bytes
        self._resolve = resolve_host
        self._allowed = allowed
        # No proxy from the environment, which would look names up by itself; no cookies, no connection kept.
        self._http = httpx.AsyncClient(
            trust_env=False, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def fetch(self, url: str, param: str, grow: Grow = lambda _: None) -> bytes:
        """The image at a URL."""
        url = url.strip()
        try:
            async with asyncio.timeout(self._options.seconds):
                for _ in range(self._options.redirects + 1):
                    target = await self._get(url, param, grow)
                    if isinstance(target, bytes):
                        return target
                    url = target
        except TimeoutError:
            raise _failed(param, f"no image within {self._options.seconds:g} s") from None
        except (httpx.HTTPError, OSError):
            raise _failed(param, "its server cannot be reached, or breaks off") from None
        except (httpx.InvalidURL, ValueError):  # of this URL, or of one that it redirects to
            raise _refused(param, "not a valid URL") from None
        raise _failed(param, f"more than {self._options.redirects} redirects")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _get(self, url: str, param: str, grow: Grow) -> bytes | str:
        """The image, or the URL that this one redirects to."""
        parts = check_url(url, param)
        host, port = _ascii_host(parts.hostname or ""), parts.port or PORTS[parts.scheme]
        address = await self._address(host, port, param)
        pinned = f"[{address}]" if address.version == 6 else str(address)
        request = self._http.build_request(
            "GET",
            parts._replace(netloc=f"{pinned}:{port}", fragment="").geturl(),
            headers={
                "host": _in_header(host) if parts.port is None else f"{_in_header(host)}:{parts.port}",
                "accept": "image/*",
                "accept-encoding": "identity",
                "user-agent": "tritonclip",
            },
            extensions={"sni_hostname": host},
            timeout=self._options.seconds,
        )
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code in REDIRECTS and (location := response.headers.get("location")):
                return urljoin(url, str(location))
            return await self._read(response, param, grow)
        finally:
            await response.aclose()

    async def _address(self, host: str, port: int, param: str) -> Address:
        if self._hosts is not None and host.lower().rstrip(".") not in self._hosts:
            raise _refused(param, "images may not be fetched from this host")
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise _failed(param, "its host name cannot be resolved")
        if not all(self._allowed(address) for address in addresses):
            raise _refused(param, "the host of this URL is not a public one")
        return addresses[0]

    async def _read(self, response: httpx.Response, param: str, grow: Grow) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise _failed(param, f"its server answered {response.status_code}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed(param, "it comes compressed, which was not asked for")
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_raw():
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                message = f"the image is larger than the limit of {self._max_bytes} bytes"
                raise ApiError("image_too_large", message, param=param)
            grow(len(part))
        data = b"".join(parts)
        if not looks_like_image(data):
            raise _failed(param, f"what it holds is {kind_of(data)}")
        return data


def check_url(url: str, param: str) -> SplitResult:
    """The parts of a URL that may be fetched; ApiError says what is wrong with any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused(param, "not a valid URL") from None
    if len(url) > MAX_URL_CHARACTERS:
        raise _refused(param, f"the URL is longer than {MAX_URL_CHARACTERS} characters")
    if parts.scheme not in PORTS:
        raise _refused(param, "images are fetched over http and https alone")
    if not parts.hostname or parts.username is not None or parts.password is not None or port == 0:
        raise _refused(param, "the URL must have a host, and no user or password")
    return parts


def _ascii_host(host: str) -> str:
    """A host as DNS and HTTP have it; ValueError (idna.IDNAError) where it cannot be one."""
    return host if host.isascii() else idna.encode(host, uts46=True).decode()


def _in_header(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _failed(param: str, reason: str) -> ApiError:
    return ApiError("url_failed", f"the image cannot be fetched: {reason}", param=param)


def _refused(param: str, reason: str) -> ApiError:
    return ApiError("url_refused", reason, param=param)
