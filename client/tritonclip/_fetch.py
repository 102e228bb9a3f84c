"""Images at URLs: fetched by the command when their turn comes."""

import asyncio

import httpx

from tritonclip import _defaults
from tritonclip.protocol.proxies import proxy_of


class Remote:
    """An image at a URL, as a file: fetched when it is read."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> bytes:
        """Fetch it, redirects and all within FETCH_TIMEOUT; whatever goes wrong is an OSError, as it is for files."""
        try:
            return asyncio.run(self._fetch())
        except TimeoutError as exc:
            raise OSError(f"cannot fetch {self._url}: not there within {_defaults.FETCH_TIMEOUT:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:  # a ValueError: a host or a proxy that is none
            raise OSError(f"cannot fetch {self._url}: {str(exc) or type(exc).__name__}") from exc

    async def _fetch(self) -> bytes:
        limit = _defaults.FETCH_MAX_BYTES
        data = bytearray()
        async with (
            asyncio.timeout(_defaults.FETCH_TIMEOUT),
            httpx.AsyncClient(transport=_ByHost(), follow_redirects=True, timeout=_defaults.FETCH_TIMEOUT) as client,
            client.stream("GET", self._url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise OSError(f"HTTP {response.status_code} from {self._url}")
            async for part in response.aiter_bytes():
                data += part
                if len(data) > limit:
                    raise OSError(f"more than {limit // 2**20} MiB at {self._url}")
        return bytes(data)


class _ByHost(httpx.AsyncBaseTransport):
    """Goes to each host by the proxy that is for it, redirects included."""

    def __init__(self) -> None:
        self._transports: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:  # also where a redirect leads
            raise httpx.UnsupportedProtocol(f"{str(url)!r} is not http(s)://HOST")
        proxy = proxy_of(url.scheme, url.host, url.port or _defaults.PORTS[url.scheme])
        address = proxy.url if proxy else None
        if address not in self._transports:
            self._transports[address] = httpx.AsyncHTTPTransport(proxy=address)
        try:
            return await self._transports[address].handle_async_request(request)
        except httpx.TransportError as exc:
            if proxy is None:
                raise
            raise httpx.ProxyError(f"{exc} (through the proxy {proxy.name})") from exc

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()
