"""gRPC: channels and their options, the headers of a call, how errors are mapped, and the transport made of these.

A channel may be used by any number of threads; it wants none of asyncio's loops for its own.
"""

import json
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import grpc
from grpc._cython import cygrpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip import _defaults
from tritonclip._errors import ClosedError, ConfigError, ConnectError, TritonClipError
from tritonclip.protocol import _forks, grpc_codec
from tritonclip.protocol._channels import Channel, ChannelTransport
from tritonclip.protocol._tls import load_certificates
from tritonclip.protocol.connection import Connection, ServerUrl
from tritonclip.protocol.messages import Call, InferRequest, OperatorCall, Reply
from tritonclip.protocol.statuses import parse_retry_after, status_error

# For ``grpc.aio`` channels as well. What they do about proxies, ``open_channel`` adds.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", _defaults.MAX_ANSWER_BYTES),
    # FanOut over all addresses of a name (a headless Kubernetes service, say), not only the first.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Clients do not share connections: else a new client would inherit an older one's wait before reconnecting.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's own waits grow to two minutes, longer than our requests may take; a server that restarts is back sooner.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # By its name another wait; it is how long one attempt may take, which a server that stands still may well need.
    ("grpc.min_reconnect_backoff_ms", round(1000 * _defaults.CONNECT_TIMEOUT)),
    # The timeout is also that of TCP for what is sent and not acknowledged; pings find peers that died in a long call.
    ("grpc.keepalive_time_ms", 1000 * _defaults.PING_SECONDS),
    ("grpc.keepalive_timeout_ms", 1000 * _defaults.UNACKNOWLEDGED_SECONDS),
]

# Codes that gRPC also makes up on this side when there is no server behind the channel.
_AMBIGUOUS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Message = tuple[str, Any]
"""The stub's method, and the protobuf message for it."""


class GrpcTransport(ChannelTransport[Message, Any]):
    """Sends calls over gRPC.

    ``exchange(call, message, timeout, read)`` sends a message that was made before, by ``grpc_codec.encode``, and gives
    a future of what ``read`` makes of the protobuf answer.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        if connection.url.is_secure:
            # gRPC would say what is wrong with a file at the first call alone, and in words that do not name it.
            load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connection)

    def _open(self) -> "GrpcChannel":
        return GrpcChannel(self._connection)

    def _encode(self, call: Call) -> Message:
        return grpc_codec.encode(call)

    def _decode(self, call: Call, answer: Any) -> Reply:
        return grpc_codec.decode(call, answer)


class GrpcChannel(Channel[Message, Any]):
    """A channel."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        with _forks.gate:
            self._channel = open_channel(connection)
            _forks.wait_before_forks()
        self._polled: set[Any] = set()
        self._stub = GRPCInferenceServiceStub(self._channel)
        # Also before the interpreter ends: it would else wait for calls under way, whose thread has ended by then.
        self._close = weakref.finalize(self, _close, self._channel)

    def send(
        self, call: Call, message: Message, timeout: float, done: Callable[[Any | TritonClipError], None]
    ) -> Callable[[], object]:
        """Send a call."""
        method, request = message
        headers = metadata(call, self._connection)
        with _forks.gate:
            try:
                rpc = getattr(self._stub, method).future(request, timeout=timeout, metadata=headers)
            except ValueError as exc:  # closed by another thread since this channel was taken
                raise ClosedError("the client was closed") from exc
            self._polled.add(rpc)
        rpc.add_done_callback(self._polled.discard)
        rpc.add_done_callback(lambda rpc: done(self._outcome(call, rpc)))
        give_up: Callable[[], object] = rpc.cancel
        return give_up

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._close()

    def is_disturbed_by_forks(self) -> bool:
        """Whether calls are under way: one thread polls for them inside gRPC, and a child would miss it there."""
        return bool(self._polled)

    def forget(self) -> None:
        """Leave the channel to the parent."""
        self._close.detach()

    def _outcome(self, call: Call, rpc: Any) -> Any | TritonClipError:
        try:
            return rpc.result()
        except grpc.FutureCancelledError:
            return status_error("CANCELLED", "given up by the caller", call.model)
        except grpc.RpcError as exc:
            connected = not _is_ambiguous(exc) or is_connected(self._channel)
            error = translate_error(exc, call, self._connection.url, connected=connected)
            error.__cause__ = exc
            return error


def _close(channel: grpc.Channel) -> None:
    with _forks.gate:
        channel.close()


def channel_target(url: ServerUrl) -> str:
    """gRPC's name for a server, resolved by DNS to all of its addresses."""
    return f"dns:///{url.authority}"


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel to the server; it connects at the first call."""
    if _forks.was_disturbed and not cygrpc.is_fork_support_enabled():
        raise ConfigError(  # else gRPC would abort the process, sooner or later
            "this process was forked while gRPC calls were under way, and gRPC was imported before tritonclip could "
            f"have it support that: set {_forks.GRPC_SUPPORT}=1, or use http://"
        )
    proxy = connection.proxy
    options = [*CHANNEL_OPTIONS, ("grpc.http_proxy", proxy.url) if proxy else ("grpc.enable_http_proxy", 0)]
    if not connection.url.is_secure:
        return grpc.insecure_channel(channel_target(connection.url), options=options)
    certificate, key = connection.client_certificate, connection.client_key or connection.client_certificate
    credentials = grpc.ssl_channel_credentials(
        connection.ca_file.read_bytes() if connection.ca_file else None,
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
    return grpc.secure_channel(channel_target(connection.url), credentials, options=options)


def metadata(call: Call, connection: Connection) -> tuple[tuple[str, str], ...]:
    """Headers of a call: its own win over the connection's; the admin key is for calls that may be restricted alone."""
    headers = dict(connection.headers)
    if isinstance(call, InferRequest):
        headers |= dict(call.headers)
    elif connection.admin_key is not None and isinstance(call, OperatorCall):
        headers["triton-grpc-protocol-admin-key"] = connection.admin_key
    return tuple(headers.items())


def is_connected(channel: grpc.Channel) -> bool:
    """Whether a channel has a live connection at this moment.

    grpc.aio calls this ``get_state``. The other channels show their state to subscribers alone, and each subscription
    polls in a thread that keeps an interpreter from ending; so this asks the channel inside.
    """
    try:
        state: int = channel._channel.check_connectivity_state(False)
    except ValueError:  # it is closed
        return False
    return bool(state == grpc.ChannelConnectivity.READY.value[0])


def _is_ambiguous(error: grpc.RpcError) -> bool:
    """Whether the channel's state must tell if a server sent this error."""
    return error.code() in _AMBIGUOUS


def translate_error(error: grpc.RpcError, call: Call, url: ServerUrl, *, connected: bool) -> TritonClipError:
    """The package's error for one of gRPC's.

    ``connected`` says whether the channel had a live connection right after the failure. gRPC reports a queue that is
    full and a port where nobody listens with the same code, but the channel is READY in the first case only.
    """
    reason = error.details() or "no reason given"
    if not connected and _is_ambiguous(error):
        return ConnectError(str(url), reason)
    # As for HTTP's 499. What is given up here ends in another error.
    code = grpc.StatusCode.UNAVAILABLE if error.code() is grpc.StatusCode.CANCELLED else error.code()
    trailers = dict(error.trailing_metadata() or ())
    return status_error(code.name, reason, call.model, parse_retry_after(trailers.get("retry-after")))
