"""The three ways in, for Locust: calls that wait, from greenlets. `load.core.clients_asyncio` has them for asyncio.

Each user has its own, as each program would: a gRPC channel, or as many HTTP connections as it has requests under way.
Import this after gevent has patched the standard library, which Locust does first of all.
"""

import gevent
import grpc.experimental.gevent as grpc_gevent
from geventhttpclient import URL, HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from load.core.operations import Task
from load.core.protocols import (
    Disconnected,
    GatewayWire,
    GrpcWire,
    HttpWire,
    Malformed,
    PostWire,
    Prepared,
    Unanswered,
    problem,
    problem_of_status,
)
from tritonclip._errors import TritonClipError
from tritonclip._messages import FloatArray
from tritonclip._settings import Connection, parse_url
from tritonclip._transports._grpc import GrpcTransport

MOST_CALLS = 1000  # over gRPC at a time, of all users of a process
MOST_CONNECTIONS = 10_000  # of one user: as many as an open loop has requests under way
OK = 200

grpc_gevent.init_gevent()  # before any channel is made: else a call would stop every other user until its answer came
# Each call waits in a thread of gevent's pool. It has ten: an eleventh call would get its answer after one of those.
gevent.get_hub().threadpool.maxsize = MOST_CALLS


class GrpcWay(GrpcWire):
    """Triton over one gRPC channel; `url` is grpc://HOST:PORT."""

    def __init__(self, url: str) -> None:
        self._transport = GrpcTransport(Connection(parse_url(url)))

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One ModelInfer."""
        try:
            sent = self._transport.exchange(request.call, ("ModelInfer", request.message), deadline, lambda raw: raw)
            message = sent.result()
        except TritonClipError as error:
            raise problem(error) from error
        return self.read(request, message)

    def close(self) -> None:
        """Close the channel."""
        self._transport.close()


class PostWay:
    """Triton's or the gateway's HTTP; `url` is http://HOST:PORT or https://HOST:PORT."""

    def __init__(self, wire: PostWire, url: str) -> None:
        self.name = wire.name
        self._wire = wire
        parsed = URL(url)
        self._prefix = parsed.path.rstrip("/")
        # Its own timeouts are for each wait; the deadline is for all of them together.
        self._http = HTTPClient.from_url(
            parsed, concurrency=MOST_CONNECTIONS, connection_timeout=None, network_timeout=None
        )

    def prepare(self, task: Task) -> Prepared:
        """The body and its headers."""
        return self._wire.prepare(task)

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        path, content, headers = request.message
        try:
            with gevent.Timeout(deadline, Unanswered(f"nothing within {deadline:g} s")):
                answer = self._http.post(self._prefix + path, content, dict(headers))
                body = bytes(answer.read())
        except (OSError, HTTPConnectionClosed) as error:
            raise Disconnected(repr(error)) from error
        except HTTPParseError as error:
            raise Malformed(repr(error)) from error
        if answer.status_code != OK:
            raise problem_of_status(answer.status_code, body)
        return self._wire.read(request, {name.lower(): value for name, value in answer.items()}, body)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def open_way(name: str, url: str, api_key: str | None) -> GrpcWay | PostWay:
    """A way in by its name: grpc, http or gateway (the key is the gateway's)."""
    if name == "grpc":
        return GrpcWay(url)
    if name == "http":
        return PostWay(HttpWire(), str(parse_url(url)))
    return PostWay(GatewayWire(api_key), url)
