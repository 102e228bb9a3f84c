"""The HTTP server: uvicorn with connections of our own, and an end that breaks nothing.

SIGTERM ─> Drain: new requests get 503, those under way go on ─> they have ended ─> the listener is closed ─> the end
"""

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from tritonclip_server.gateway.http.connection import Connection
from tritonclip_server.gateway.http.connection_limits import ConnectionLimiter, ConnectionTimeouts
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.logs import trace
from tritonclip_server.gateway.settings import Limits

log = logging.getLogger("gateway")

# Longer than clients and balancers keep idle connections (60 s is common): whoever ends a connection that the other one
# is about to use breaks a request, and a POST is not sent again.
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 5  # beyond the time limit of a request, when asked to stop
LAST_SECONDS = 0.25  # for requests that were sent before the listener was closed: they are told, not cut off
SWITCH_SECONDS = 0.001
SPARE_DESCRIPTORS = 128  # for all that is no caller's connection: the model server's, fetched images', files


class Server(uvicorn.Server):
    """uvicorn's server, which answers whoever asks while it stops."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM: refuse new requests from now on. A second SIGINT ends it at once."""
        self._drain.stopping = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        asyncio.get_running_loop().set_exception_handler(_log_stray)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what has begun, then close the listener, then all connections."""
        self._drain.stopping = True
        loop = asyncio.get_running_loop()
        until = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        while self._drain.under_way and loop.time() < until and not self.force_exit:  # noqa: ASYNC110 - as uvicorn waits
            await asyncio.sleep(0.05)
        await self._stop_listening(sockets or [])
        await asyncio.sleep(LAST_SECONDS)
        self.config.timeout_graceful_shutdown = max(1, int(until - loop.time()))
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the listeners, but serve whoever had connected already: closing would reset them."""
        copies: list[socket.socket] = []
        with contextlib.suppress(OSError):  # no descriptors: then they are reset
            copies += [each.dup() for each in sockets]
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # until nobody else accepts
        connected: list[socket.socket] = []
        for listener in copies:
            listener.setblocking(False)
            with contextlib.suppress(OSError), listener:  # the first error is that there is nobody more
                while True:
                    connected.append(listener.accept()[0])
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        protocol = functools.partial(
            make, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        for each in connected:
            each.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, each)


def make_server(app: FastAPI, limits: Limits, timeouts: ConnectionTimeouts | None = None) -> Server:
    """A server for an application that `create_app` made."""
    _build_routes(app)
    limiter = ConnectionLimiter(min(limits.connections, _descriptors()), app.state.metrics, timeouts)
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, limiter=limiter),  # type: ignore[arg-type]  # it is only called
        ws="none",
        access_log=False,
        log_config=None,  # as everything else that is logged in this process
        log_level="error",  # what it warns of are callers' mistakes, for which there is a line already
        server_header=False,
        proxy_headers=False,  # no decision goes by them, and whoever is on this machine could forge them
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(limits.seconds) + DRAIN_SECONDS,
    )
    return Server(config, app.state.drain)


def calm() -> None:
    """Keep the interpreter from holding every request up now and then.

    What has been imported stays until the end, and looking through it for garbage takes a tenth of a second. A thread
    that parses a large request hands over to the event loop after a millisecond, not after five.
    """
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)


def _build_routes(app: FastAPI) -> None:
    """Do now what FastAPI puts off until a route is first looked at: a tenth of a second, of which all else waits."""
    nowhere = {"type": "http", "method": "GET", "path": "", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


def allow_descriptors() -> None:
    """Raise this process's soft limit of open files to the hard one, as far as that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors() -> int:
    """How many connections this process can have open, and still open what else it needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - SPARE_DESCRIPTORS) if soft != resource.RLIM_INFINITY else 2**31


def _log_stray(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong where nobody waits for it, without the words of errors: they may quote what a caller sent."""
    error = context.get("exception")
    found = f"\n{trace(error)}" if isinstance(error, BaseException) else ""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (context["message"],), None)
    record.exc_text = found.strip() or None
    log.handle(record)
