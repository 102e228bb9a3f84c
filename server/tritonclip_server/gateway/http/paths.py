"""Requests as programs spell them, to requests as the routes know them: slashes at either end of a path, and HEAD.

A base URL that ends with a slash gives `//v1/models`, and some programs write `/v1/embeddings/`. A redirect to the path
without it would lose a body or a key on the way, with some clients. So both are the same path, for the router and for
what decides whether a key is needed.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.access.policy import split_path


class PathMiddleware:
    """The outermost layer: paths without slashes that say nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            root, path = split_path(scope)
            if path:
                scope = {**scope, "path": f"{root}/{path.strip('/')}"}
        await self._app(scope, receive, send)


class HeadMiddleware:
    """The innermost layer: HEAD is answered as GET is, and its body left out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)
