"""HTTP/1.1 over pooled connections.

    any thread ──start──> the channel's own event loop, in a thread of its own ──httpx──> the server

One loop serves all callers, blocking and asynchronous ones, whatever loops they run themselves. So a deadline covers
a request as a whole, from its first byte sent to its last one received, and a request can be given up at any moment.
"""

import asyncio
import inspect
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final, NamedTuple

import httpx

from tritonclip import _defaults
from tritonclip._errors import ClosedError, ConfigError, ConnectError, ProtocolError, StatusError, TritonClipError
from tritonclip._version import __version__
from tritonclip.protocol import _forks, http_codec
from tritonclip.protocol._channels import Channel, ChannelTransport
from tritonclip.protocol._tls import load_certificates
from tritonclip.protocol.connection import Connection
from tritonclip.protocol.http_codec import HttpRequest
from tritonclip.protocol.messages import Call, OperatorCall, Reply
from tritonclip.protocol.statuses import status_error

CLOSING_SECONDS: Final = 2.0  # the longest wait for connections to close
# Of a request's time; so a server that is not there is never taken for one that does not answer.
CONNECT_SHARE: Final = 0.9
# What a proxy may answer in the server's place.
_PROXY_STATUSES: Final = frozenset({403, 407, *range(500, 600)})


class Answer(NamedTuple):
    """A response as it came; names of headers in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpTransport(ChannelTransport[HttpRequest, Answer]):
    """Sends calls over HTTP."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        open_client(connection)  # what is wrong with its files or its proxy comes to light now

    def _open(self) -> "HttpChannel":
        return HttpChannel(self._connection, open_client(self._connection))

    def _encode(self, call: Call) -> HttpRequest:
        return http_codec.encode(call)

    def _decode(self, call: Call, answer: Answer) -> Reply:
        try:
            return http_codec.decode(call, *answer)
        except StatusError as exc:
            if self._connection.proxy is None or answer.status not in _PROXY_STATUSES:
                raise
            reason = f"{exc.reason} (through the proxy {self._connection.proxy.name})"
            raise status_error(exc.status_code, reason, exc.model, retry_after=exc.retry_after) from None


class HttpChannel(Channel[HttpRequest, Answer]):
    """A pool of connections, and the event loop that serves them. How many there are, the number of callers decides."""

    def __init__(self, connection: Connection, client: httpx.AsyncClient) -> None:
        super().__init__()
        self._connection = connection
        self._client = client
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(self._loop,), name="tritonclip-http", daemon=True)
        thread.start()
        self._close = weakref.finalize(self, _close, self._loop, thread, client)

    def send(
        self, call: Call, message: HttpRequest, timeout: float, done: Callable[[Answer | TritonClipError], None]
    ) -> Callable[[], object]:
        """Send a request."""
        with _forks.gate:
            if not self._close.alive:  # closed by another thread since this channel was taken
                raise ClosedError("the client was closed")
            running = asyncio.run_coroutine_threadsafe(self._request(call, message, timeout), self._loop)
        running.add_done_callback(lambda running: done(_outcome(call, running)))

        def give_up() -> None:
            # On the loop itself: the last call to end may close the channel, and asyncio cancels the task after that.
            with suppress(RuntimeError):  # the loop is closed, and its requests have ended with it
                self._loop.call_soon_threadsafe(running.cancel)

        return give_up

    def close(self) -> None:
        """Close all connections; requests under way are cancelled."""
        self._close()

    def forget(self) -> None:
        """Leave the connections to the parent, whose thread serves them."""
        self._close.detach()

    async def _request(self, call: Call, request: HttpRequest, timeout: float) -> Answer:  # noqa: ASYNC109
        headers = {**dict(self._connection.headers), **request.headers}
        if self._connection.admin_key is not None and isinstance(call, OperatorCall):
            headers["admin-key"] = self._connection.admin_key
        connect = min(CONNECT_SHARE * timeout, _defaults.CONNECT_TIMEOUT)
        sending = self._client.stream(
            request.method,
            request.path,
            headers=headers,
            content=request.content,
            timeout=httpx.Timeout(None, connect=connect),
        )
        try:
            async with asyncio.timeout(timeout), sending as response:
                return Answer(response.status_code, response.headers, await _read(call, response))
        except TimeoutError as exc:
            raise status_error("DEADLINE_EXCEEDED", f"no answer within {timeout:g} s", call.model) from exc
        except httpx.DecodingError as exc:
            raise ProtocolError(f"{call.model or 'server'}: the answer cannot be decoded: {exc}") from exc
        except (httpx.HTTPError, OSError) as exc:  # no status is among these: a status comes with a response
            reason = str(exc) or f"the connection broke off ({type(exc).__name__})"
            raise ConnectError(str(self._connection.url), reason) from exc


def open_client(connection: Connection) -> httpx.AsyncClient:
    """An httpx client for a server, which reads nothing from the environment itself."""
    if not connection.url.is_secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used
    elif connection.ca_file is None:
        context = httpx.create_ssl_context(trust_env=False)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which trusts nobody yet
    load_certificates(context, connection)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    proxy = connection.proxy.url if connection.proxy else None
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=context, trust_env=False, limits=limits, proxy=proxy, socket_options=socket_options()
        )
    except (ImportError, ValueError, httpx.InvalidURL) as exc:  # SOCKS without its package
        shown = connection.proxy.name if connection.proxy else "none"
        raise ConfigError(f"proxy {shown}: {exc}") from None  # the cause may show its password
    # Vectors do not get smaller, and decompressing costs time.
    headers = {"accept-encoding": "identity", "user-agent": f"tritonclip/{__version__}"}
    return httpx.AsyncClient(base_url=connection.url.server, transport=transport, headers=headers, trust_env=False)


def socket_options() -> list[tuple[int, int, int]]:
    """Options of each connection, as far as this system has them: a peer that is gone is noticed by TCP itself."""
    seconds = _defaults.UNACKNOWLEDGED_SECONDS
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds), ("TCP_USER_TIMEOUT", 1000 * seconds)):
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options


async def _read(call: Call, response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _defaults.MAX_ANSWER_BYTES:
            limit = _defaults.MAX_ANSWER_BYTES // 2**20
            raise ProtocolError(f"{call.model or 'server'}: an answer of more than {limit} MiB")
        parts.append(part)
    return b"".join(parts)


def _outcome(call: Call, running: Future[Answer]) -> Answer | TritonClipError:
    try:
        return running.result()
    except CancelledError:
        return status_error("CANCELLED", "given up by the caller", call.model)
    except TritonClipError as exc:
        return exc
    except Exception as exc:  # an error of httpx's or the loop's that nobody foresaw must not keep the caller waiting
        error = ProtocolError(f"{call.model or 'server'}: {type(exc).__name__}: {exc}")
        error.__cause__ = exc
        return error


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread, client: httpx.AsyncClient) -> None:
    with _forks.gate:
        asyncio.run_coroutine_threadsafe(_shut_down(client), loop)
    if thread is not threading.current_thread():
        thread.join(CLOSING_SECONDS)


async def _shut_down(client: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    # Connections are made by tasks of anyio's. Of one that is cancelled before it begins, Python says on stderr that it
    # was never awaited. They begin in the loop's next turn.
    while not all(map(_has_begun, asyncio.all_tasks(loop))):  # noqa: ASYNC110
        await asyncio.sleep(0)
    requests = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await client.aclose()
    loop.stop()


def _has_begun(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    return not isinstance(coroutine, Coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
