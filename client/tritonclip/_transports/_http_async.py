"""HTTP for asyncio."""

import asyncio

import httpx

from tritonclip._errors import status_error
from tritonclip._messages import Call, Reply
from tritonclip._settings import ServerUrl
from tritonclip._transports._http_common import client_settings, read, request_arguments, translate


class AsyncHttpTransport:
    """Sends calls over pooled HTTP connections."""

    def __init__(self, url: ServerUrl, admin_key: str | None) -> None:
        self._url = url
        self._admin_key = admin_key
        self._client = httpx.AsyncClient(**client_settings(url))

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the same signature for all transports
        """Send a call and wait for its reply."""
        try:
            async with asyncio.timeout(timeout):
                response = await self._client.request(**request_arguments(call, timeout, self._admin_key))
        except TimeoutError as exc:
            raise status_error("DEADLINE_EXCEEDED", f"no answer within {timeout:g} s", call.model) from exc
        except httpx.HTTPError as exc:
            raise translate(exc, call, self._url) from exc
        return read(call, response)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
