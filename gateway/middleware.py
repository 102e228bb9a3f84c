"""The two layers around all routes, in plain ASGI: nothing reaches a route that has no right to, or no end.

Envelope     every request: id, fingerprint, metrics; whatever is raised inside becomes an answer
Doorkeeper   the API alone: key, rate, the whole body under its limit, deadline, hang-up
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.answers import error_answer
from gateway.errors import ApiError, ClientGone, translate
from gateway.exchange import Exchange, exchange_of, open_exchange, shorten_deadline
from gateway.keys import Key, KeyRing
from gateway.metrics import Metrics
from gateway.rates import RateLimiter
from gateway.settings import Limits

API_PATHS = ("/v1/", "/v2/")

EndpointOf = Callable[[Scope], str]


class Envelope:
    """Names each request, counts it, and turns what is raised into OpenAI's error envelope."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        seconds: float,
        fingerprint: Callable[[], str | None],
        endpoint_of: EndpointOf,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._seconds = seconds
        self._fingerprint = fingerprint
        self._endpoint_of = endpoint_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = open_exchange(scope, _headers(scope), self._seconds)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], *self._answer_headers(exchange)]
            try:
                await send(message)
            except (OSError, RuntimeError) as error:  # uvloop's for a connection that is closed is a RuntimeError
                raise ClientGone from error

        try:
            await self._app(scope, receive, send_named)
        except ClientGone:
            exchange.status = 499
        except Exception as error:
            refusal = translate(error)
            self._metrics.rejections.labels(refusal.code).inc()
            if exchange.status is None:
                with contextlib.suppress(ClientGone):
                    await error_answer(refusal)(scope, receive, send_named)
        finally:
            endpoint = self._endpoint_of(scope)
            self._metrics.requests.labels(endpoint, str(exchange.status or 499)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _answer_headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = exchange.headers | {"x-request-id": exchange.request_id}
        if fingerprint := self._fingerprint():
            headers["x-model-fingerprint"] = fingerprint
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class Doorkeeper:
    """Lets a request into the API: with a key, within its rate, with a body of bearable size, for a bounded time."""

    def __init__(self, app: ASGIApp, *, limits: Limits, keys: KeyRing | None, rates: RateLimiter) -> None:
        self._app = app
        self._limits = limits
        self._keys = keys
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(API_PATHS):
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        headers = _headers(scope)
        shorten_deadline(exchange, headers)
        try:
            async with asyncio.timeout_at(exchange.deadline) as timeout:
                # The key before the body: who has none may not even upload.
                if self._keys is not None:
                    exchange.key = authenticate(self._keys, headers.get("authorization", ""))
                    self._rates.charge(exchange.key, "requests", 1, exchange.headers)
                body = await read_body(receive, headers, self._limits.body_bytes)
                await _until_hang_up(self._app, scope, body, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ApiError("timeout", "no answer within the time limit") from None


def authenticate(keys: KeyRing, authorization: str) -> Key:
    """The key of an Authorization header; ApiError where it opens nothing."""
    scheme, _, presented = authorization.partition(" ")
    key = keys.find(presented.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise ApiError("invalid_api_key", "give a valid API key: Authorization: Bearer KEY")
    return key


async def read_body(receive: Receive, headers: dict[str, str], limit: int) -> bytes:
    """The whole body; ApiError as soon as it is known to be too large, ClientGone where it never ends."""
    too_large = ApiError("body_too_large", f"the body is larger than the limit of {limit} bytes")
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(parts)


async def _until_hang_up(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Run the application on a body that is here already; cancel it, and raise ClientGone, once the caller hangs up."""
    hang_up = asyncio.create_task(_wait_for_hang_up(receive))
    work = asyncio.create_task(_run(app, scope, _replay(body, hang_up), send))
    try:
        await asyncio.wait((work, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGone
        work.result()
    finally:
        work.cancel()
        hang_up.cancel()
        await asyncio.gather(work, hang_up, return_exceptions=True)  # how they ended was heard of above


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _wait_for_hang_up(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message


def _replay(body: bytes, hang_up: "asyncio.Task[Message]") -> Callable[[], Awaitable[Any]]:
    """A `receive` that hands out the body, then waits for what comes next: the hang-up."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await asyncio.shield(hang_up)

    return receive


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
