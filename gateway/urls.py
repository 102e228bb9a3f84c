"""Images fetched from URLs, with nothing of this network within reach of whoever names the URL.

    URL ─check─> host, resolved once ─every address public?─> connection to that very address ─> status, type, size
     └──────────────────────── redirect: the same again, from the start ────────────────────┘

The address is pinned: TLS and the Host header still carry the name, but no second look-up can lead elsewhere. Nothing
of what a refused server answered is repeated to the caller.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from gateway.addresses import Address, is_public
from gateway.errors import ApiError
from gateway.pictures import looks_like_image
from gateway.settings import UrlImages

Resolve = Callable[[str, int], Awaitable[list[Address]]]

PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_URL_CHARACTERS = 2048


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host name, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


class Fetcher:
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
        self._max_bytes = max_bytes
        self._resolve = resolve_host
        self._allowed = allowed
        self._at_once = asyncio.Semaphore(options.at_once)
        # No proxy from the environment, which would look names up by itself; no cookies, no connection kept.
        self._http = httpx.AsyncClient(
            trust_env=False, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def fetch(self, url: str, param: str) -> bytes:
        """The image at a URL."""
        try:
            async with self._at_once, asyncio.timeout(self._options.seconds):
                for _ in range(self._options.redirects + 1):
                    target = await self._get(url, param)
                    if isinstance(target, bytes):
                        return target
                    url = target
        except TimeoutError:
            raise _failed(param, f"no image within {self._options.seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            raise _failed(param, "its server cannot be reached, or breaks off") from None
        raise _failed(param, f"more than {self._options.redirects} redirects")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _get(self, url: str, param: str) -> bytes | str:
        """The image, or the URL that this one redirects to."""
        parts = check_url(url, param)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        address = await self._address(host, port, param)
        pinned = f"[{address}]" if address.version == 6 else str(address)
        request = self._http.build_request(
            "GET",
            parts._replace(netloc=f"{pinned}:{port}", fragment="").geturl(),
            headers={
                "host": parts.netloc,
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
            return await self._read(response, param)
        finally:
            await response.aclose()

    async def _address(self, host: str, port: int, param: str) -> Address:
        allowed_hosts = self._options.hosts
        if allowed_hosts is not None and host.lower().rstrip(".") not in allowed_hosts:
            raise ApiError("url_refused", "images may not be fetched from this host", param=param)
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise _failed(param, "its host name cannot be resolved")
        if not all(self._allowed(address) for address in addresses):
            raise ApiError("url_refused", "the host of this URL is not a public one", param=param)
        return addresses[0]

    async def _read(self, response: httpx.Response, param: str) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise _failed(param, f"its server answered {response.status_code}")
        if not response.headers.get("content-type", "").lower().startswith("image/"):
            raise _failed(param, "its content type is not that of an image")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed(param, "it comes compressed, which was not asked for")
        data = bytearray()
        async for part in response.aiter_raw():
            data += part
            if len(data) > self._max_bytes:
                raise ApiError(
                    "image_too_large", f"the image is larger than the limit of {self._max_bytes} bytes", param=param
                )
        if not looks_like_image(bytes(data)):
            raise _failed(param, "what it holds is no image of a known format")
        return bytes(data)


def check_url(url: str, param: str) -> SplitResult:
    """The parts of a URL that may be fetched; ApiError says what is wrong with any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ApiError("url_refused", "not a valid URL", param=param) from None
    if len(url) > MAX_URL_CHARACTERS:
        raise ApiError("url_refused", f"the URL is longer than {MAX_URL_CHARACTERS} characters", param=param)
    if parts.scheme not in PORTS:
        raise ApiError("url_refused", "images are fetched over http and https alone", param=param)
    if not parts.hostname or parts.username is not None or parts.password is not None or port == 0:
        raise ApiError("url_refused", "the URL must have a host, and no user or password", param=param)
    return parts


def _failed(param: str, reason: str) -> ApiError:
    return ApiError("url_failed", f"the image cannot be fetched: {reason}", param=param)
