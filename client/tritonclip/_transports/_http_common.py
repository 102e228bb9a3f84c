"""What the two HTTP transports share: the client's settings, the admin key's header, and the mapping of errors."""

from typing import Any

import httpx

from tritonclip import _codec_http, _defaults
from tritonclip._errors import ConnectError, TritonClipError, status_error
from tritonclip._messages import Call, Reply, StatisticsRequest
from tritonclip._settings import ServerUrl


def client_settings(url: ServerUrl) -> dict[str, Any]:
    """Arguments of an httpx client for a server. How many connections there are, the number of callers decides."""
    return {"base_url": str(url), "limits": httpx.Limits(max_connections=None, max_keepalive_connections=64)}


def request_arguments(call: Call, timeout: float, admin_key: str | None) -> dict[str, Any]:
    """Arguments of ``client.request`` for a call; the admin key goes only to calls that may be restricted."""
    request = _codec_http.encode(call)
    headers = dict(request.headers)
    if admin_key is not None and isinstance(call, StatisticsRequest):
        headers["admin-key"] = admin_key
    return {
        "method": request.method,
        "url": request.path,
        "headers": headers,
        "content": request.content,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _defaults.CONNECT_TIMEOUT)),
    }


def read(call: Call, response: httpx.Response) -> Reply:
    """The reply to a call, or the server's error."""
    return _codec_http.decode(call, response.status_code, response.headers, response.content)


def translate(error: httpx.HTTPError, call: Call, url: ServerUrl) -> TritonClipError:
    """The package's error for one of httpx's. No status is among them: those come with a response."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return status_error("DEADLINE_EXCEEDED", f"no answer in time ({reason})", call.model)
    return ConnectError(str(url), reason)
