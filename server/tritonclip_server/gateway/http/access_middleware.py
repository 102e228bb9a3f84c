"""What a request needs to reach a route, in time: a key, its rate, room for its body, the whole body."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.access.keys import Key, KeyStore, KeysUnavailable
from tritonclip_server.gateway.access.policy import foreign, is_open
from tritonclip_server.gateway.access.rate_limit import RateLimiter
from tritonclip_server.gateway.admission.byte_budget import ByteBudget, Hold
from tritonclip_server.gateway.errors import ApiError, ClientGone
from tritonclip_server.gateway.http.connection import GONE
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.http.request_context import (
    RequestContext,
    context_of,
    has_body,
    shorten_deadline,
)
from tritonclip_server.gateway.settings import Settings


class AccessMiddleware:
    """Lets a request in: with a key, within its rate, with a body of bearable size, for a bounded time."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: KeyStore | None,
        rate_limiter: RateLimiter,
        budget: ByteBudget,
        drain: Drain,
    ) -> None:
        self._app = app
        self._limits = settings.limits
        self._host = settings.host
        self._origins = settings.origins
        self._keys = keys
        self._rate_limiter = rate_limiter
        self._budget = budget
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":  # there are none, and whatever takes one asks for no key
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        headers = context.request_headers
        context.body_is_read = not has_body(headers)
        open_to = self._host if self._keys is None else None
        if open_to is not None and (betrayed := foreign(scope["method"], headers, open_to, self._origins)):
            message = f"without keys this gateway answers this machine alone, and {betrayed} is another's"
            hint = "; --allow-origin lets a page in" if betrayed == "Origin" else ""
            raise ApiError("forbidden_origin", message + hint)
        if is_open(scope):
            await self._app(scope, receive, send)
            return
        with self._drain.request():
            await self._serve(context, headers, scope, receive, send)

    async def _serve(
        self, context: RequestContext, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a request within its time. The key comes before the body: who has none may not even upload."""
        if self._keys is not None:
            context.key = authenticate(self._keys, headers.get("authorization", ""))
            self._rate_limiter.charge(context.key, "requests", 1, context.headers)
        shorten_deadline(context)
        try:
            async with asyncio.timeout_at(context.deadline) as timeout:
                announced = announced_size(headers, self._limits.body_bytes)
                with self._budget.hold(context.caller) as hold:
                    if not hold.try_acquire(announced):
                        with context.stage("wait"):
                            await _unless_gone(scope, hold.acquire(announced, deadline=context.deadline))
                    context.hold = hold
                    # In a list, which it leaves with the route that takes it: a route may free what it has parsed.
                    with context.stage("body"):
                        body = [await read_body(receive, hold, self._limits.body_bytes)]
                    context.body_is_read = True
                    await _until_hang_up(self._app, scope, body, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            if context.body_is_read:
                raise ApiError("timeout", "no answer within the time limit") from None
            raise ApiError("request_timeout", "the body did not arrive within the time limit") from None


def authenticate(keys: KeyStore, authorization: str) -> Key:
    """The key of an Authorization header; ApiError where it opens nothing."""
    scheme, _, presented = authorization.partition(" ")
    try:
        key = keys.find(presented.strip()) if scheme.lower() == "bearer" else None
    except KeysUnavailable as error:
        raise ApiError("keys_unavailable", "keys cannot be checked now; try again") from error
    if key is None:
        raise ApiError("invalid_api_key", "give a valid API key: Authorization: Bearer KEY")
    return key


def announced_size(headers: dict[str, str], limit: int) -> int:
    """The bytes of a body by its Content-Length, 0 where it has none; ApiError where it is too large."""
    announced = headers.get("content-length", "")
    if not (announced.isascii() and announced.isdecimal()):
        return 0
    digits = announced.lstrip("0") or "0"
    if len(digits) > len(str(limit)) or int(digits) > limit:
        raise _too_large(limit)
    return int(digits)


async def read_body(receive: Receive, hold: Hold, limit: int) -> bytes:
    """The whole body; ApiError as soon as it is known to be too large, ClientGone where it never ends.

    What was not announced is held as it comes.
    """
    body = io.BytesIO()  # whose value is its buffer: nothing is there twice
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body.write(message.get("body", b""))
        if body.tell() > limit:
            raise _too_large(limit)
        if body.tell() > hold.size:
            hold.grow(body.tell() - hold.size)
        if not message.get("more_body", False):
            return body.getvalue()


def _too_large(limit: int) -> ApiError:
    return ApiError("body_too_large", f"the body is larger than the limit of {limit} bytes")


async def _until_hang_up(app: ASGIApp, scope: Scope, body: list[bytes], receive: Receive, send: Send) -> None:
    """Run the application on a body that is here already; cancel it, and raise ClientGone, once the caller hangs up."""
    hang_up = asyncio.create_task(_wait_for_hang_up(receive))
    await _unless(hang_up, _run(app, scope, _replay(body, hang_up), send))


async def _unless_gone(scope: Scope, work: Coroutine[Any, Any, None]) -> None:
    """Do some work before the body is read; cancel it, and raise ClientGone, once the connection has ended.

    `receive` would tell as well, but take in more of the body than there is room for.
    """
    gone: asyncio.Event = scope.get("extensions", {}).get(GONE) or asyncio.Event()
    await _unless(asyncio.create_task(gone.wait()), work)


async def _unless(hang_up: "asyncio.Task[Any]", work: Coroutine[Any, Any, None]) -> None:
    """Do some work; cancel it, and raise ClientGone, once the hang-up comes."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait((working, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        working.result()
    finally:
        working.cancel()
        hang_up.cancel()
        await asyncio.gather(working, hang_up, return_exceptions=True)  # how they ended was heard of above


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _wait_for_hang_up(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message


def _replay(body: list[bytes], hang_up: "asyncio.Task[Message]") -> Callable[[], Awaitable[Any]]:
    """A `receive` that hands out the body, then waits for what comes next: the hang-up."""

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        return await asyncio.shield(hang_up)

    return receive
