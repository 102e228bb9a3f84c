"""Clients for Locust: calls that wait, from greenlets. `load.core.clients_asyncio` has the same for asyncio.

Each user has its own, as each program would: a gRPC channel, or as many HTTP connections as it has requests under way.
Import this after gevent has patched the standard library, which Locust does first of all.
"""

import gevent
import grpc.experimental.gevent as grpc_gevent
from geventhttpclient import URL, HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from load.core.protocols import (
    Disconnected,
    GatewayProtocol,
    GrpcProtocol,
    HttpProtocol,
    Malformed,
    Prepared,
    Unanswered,
    problem,
)
from tritonclip import TritonClipError
from tritonclip.protocol import Connection, FloatArray, parse_url
from tritonclip.protocol.grpc_transport import GrpcTransport

MOST_CALLS = 1000  # over gRPC at a time, of all users of a process
MOST_CONNECTIONS = 10_000  # of one user: as many as an open loop has requests under way


def patch() -> None:
    """Have gRPC wait as gevent does. Before any channel is made: else a call would stop all users until its answer."""
    grpc_gevent.init_gevent()
    # Each call waits in a thread of gevent's pool. It has ten: an eleventh call would wait for one of those.
    gevent.get_hub().threadpool.maxsize = MOST_CALLS


class GrpcClient(GrpcProtocol):
    """Triton over one gRPC channel; `url` is grpc://HOST:PORT, with ?model=NAME where it carries several."""

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        super().__init__(parsed.model)
        self._transport = GrpcTransport(Connection(parsed))

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


class HttpClient:
    """Triton's or the gateway's HTTP; `url` is http://HOST:PORT or https://HOST:PORT."""

    def __init__(self, protocol: HttpProtocol, url: str) -> None:
        self.name, self.prepare = protocol.name, protocol.prepare
        self._read = protocol.read
        parsed = URL(url)
        self._prefix = parsed.path.rstrip("/")
        # Its own timeouts are for each wait; the deadline is for all of them together.
        self._http = HTTPClient.from_url(
            parsed, concurrency=MOST_CONNECTIONS, connection_timeout=None, network_timeout=None
        )

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        """One POST."""
        post = request.message
        try:
            with gevent.Timeout(deadline, Unanswered(f"nothing within {deadline:g} s")):
                answer = self._http.post(self._prefix + post.path, post.content, post.headers)
                body = bytes(answer.read())
        except (OSError, HTTPConnectionClosed) as error:
            raise Disconnected(repr(error)) from error
        except HTTPParseError as error:
            raise Malformed(repr(error)) from error
        received = {name.lower(): value for name, value in answer.items()}
        return self._read(request, answer.status_code, received, body)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def open_client(name: str, url: str, api_key: str | None = None) -> GrpcClient | HttpClient:
    """A client by the name of its protocol: grpc, http or gateway (the key is the gateway's)."""
    if name == "grpc":
        return GrpcClient(url)
    if name == "http":
        parsed = parse_url(url)
        return HttpClient(HttpProtocol(parsed.model), parsed.server)
    return HttpClient(GatewayProtocol(api_key), url)
