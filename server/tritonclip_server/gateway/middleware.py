"""The two layers around all routes, in plain ASGI: nothing reaches a route that has no right to, or no end.

Envelope     every request: id, fingerprint, metrics; whatever is raised inside becomes an answer, and a line of the log
Doorkeeper   everything but the open paths: key, rate, room for the body, the whole body, deadline, hang-up
"""

import asyncio
import contextlib
import io
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.access import foreign, is_open
from tritonclip_server.gateway.answers import error_answer
from tritonclip_server.gateway.budget import Budget, Hold
from tritonclip_server.gateway.connection import GONE
from tritonclip_server.gateway.draining import Drain
from tritonclip_server.gateway.error_shapes import shape_of
from tritonclip_server.gateway.errors import ApiError, ClientGone, translate
from tritonclip_server.gateway.exchange import (
    Exchange,
    exchange_of,
    has_body,
    headers_of,
    open_exchange,
    shorten_deadline,
)
from tritonclip_server.gateway.keys import Key, KeyRing, KeysUnavailable
from tritonclip_server.gateway.logs import forget_frames
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.rates import RateLimiter
from tritonclip_server.gateway.request_log import log_failure
from tritonclip_server.gateway.settings import Settings

_FINGERPRINT = re.compile(r"[!-~]{1,128}")

EndpointOf = Callable[[Scope], str]


class Envelope:
    """Names each request, counts it, and turns what is raised into an error as its clients read it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        seconds: float,
        fingerprint: Callable[[], str | None],
        endpoint_of: EndpointOf,
        drain: Drain | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._seconds = seconds
        self._fingerprint = fingerprint
        self._endpoint_of = endpoint_of
        self._drain = drain or Drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = open_exchange(scope, headers_of(scope), self._seconds)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], *self._answer_headers(exchange)]
            try:
                await send(message)
            except (OSError, RuntimeError) as error:  # uvloop's for a connection that is closed is a RuntimeError
                raise ClientGone from error

        failed: Exception | None = None
        try:
            await self._app(scope, receive, send_named)
        except ClientGone as error:
            exchange.status, exchange.code = 499, "cancelled"
            forget_frames(error)
        except Exception as error:
            failed = refusal = translate(error)
            exchange.code = refusal.code
            self._metrics.rejections.labels(refusal.code).inc()
            if exchange.status is None:
                shape = exchange.error_shape or shape_of(scope["method"], self._endpoint_of(scope))
                with contextlib.suppress(ClientGone):
                    await error_answer(refusal, shape)(scope, receive, send_named)
        finally:
            status, endpoint, seconds = exchange.status or 499, self._endpoint_of(scope), time.perf_counter() - started
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(seconds)
            if status >= 400:
                log_failure(
                    exchange, method=scope["method"], endpoint=endpoint, status=status, seconds=seconds, error=failed
                )
            if failed is not None:
                forget_frames(failed)

    def _answer_headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = exchange.headers | {"x-request-id": exchange.request_id}
        fingerprint = self._fingerprint()
        if fingerprint and _FINGERPRINT.fullmatch(fingerprint):
            headers["x-model-fingerprint"] = fingerprint
        if not exchange.body_is_read or self._drain.stopping:
            headers["connection"] = "close"
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class Doorkeeper:
    """Lets a request in: with a key, within its rate, with a body of bearable size, for a bounded time."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: KeyRing | None,
        rates: RateLimiter,
        budget: Budget,
        drain: Drain,
    ) -> None:
        self._app = app
        self._limits = settings.limits
        self._host = settings.host
        self._origins = settings.origins
        self._keys = keys
        self._rates = rates
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
        exchange, headers = exchange_of(scope), headers_of(scope)
        exchange.body_is_read = not has_body(headers)
        open_to = self._host if self._keys is None else None
        if open_to is not None and (betrayed := foreign(scope["method"], headers, open_to, self._origins)):
            message = f"without keys this gateway answers this machine alone, and {betrayed} is another's"
            hint = "; --allow-origin lets a page in" if betrayed == "Origin" else ""
            raise ApiError("forbidden_origin", message + hint)
        if is_open(scope):
            await self._app(scope, receive, send)
            return
        with self._drain.request():
            await self._serve(exchange, headers, scope, receive, send)

    async def _serve(
        self, exchange: Exchange, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a request within its time. The key comes before the body: who has none may not even upload."""
        if self._keys is not None:
            exchange.key = authenticate(self._keys, headers.get("authorization", ""))
            self._rates.charge(exchange.key, "requests", 1, exchange.headers)
        shorten_deadline(exchange, headers)
        try:
            async with asyncio.timeout_at(exchange.deadline) as timeout:
                announced = announced_size(headers, self._limits.body_bytes)
                with self._budget.hold(exchange.caller) as hold:
                    if not hold.enter_now(announced):
                        await _unless_gone(scope, hold.enter(announced, deadline=exchange.deadline))
                    exchange.hold = hold
                    # In a list, which it leaves with the route that takes it: a route may free what it has parsed.
                    body = [await read_body(receive, hold, self._limits.body_bytes)]
                    exchange.body_is_read = True
                    await _until_hang_up(self._app, scope, body, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            if exchange.body_is_read:
                raise ApiError("timeout", "no answer within the time limit") from None
            raise ApiError("request_timeout", "the body did not arrive within the time limit") from None


def authenticate(keys: KeyRing, authorization: str) -> Key:
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
