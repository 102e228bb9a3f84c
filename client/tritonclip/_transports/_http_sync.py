"""HTTP, blocking. An httpx client may be used by any number of threads."""

import httpx

from tritonclip._messages import Call, Reply
from tritonclip._settings import ServerUrl
from tritonclip._transports._http_common import client_settings, read, request_arguments, translate


class HttpTransport:
    """Sends calls over pooled HTTP connections."""

    def __init__(self, url: ServerUrl, admin_key: str | None) -> None:
        self._url = url
        self._admin_key = admin_key
        self._client = httpx.Client(**client_settings(url))

    def send(self, call: Call, timeout: float) -> Reply:
        """Send a call and wait for its reply; httpx applies the timeout to each wait for the network, not their sum."""
        try:
            response = self._client.request(**request_arguments(call, timeout, self._admin_key))
        except httpx.HTTPError as exc:
            raise translate(exc, call, self._url) from exc
        return read(call, response)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
