"""gRPC's side of a connection: the channel with its options, headers of a call, and the mapping of errors."""

import json
from typing import Any

import grpc
from grpc._cython import cygrpc

from tritonclip import _defaults, _forks
from tritonclip._errors import ConfigError, ConnectError, TritonClipError, status_error
from tritonclip._messages import Call, StatisticsRequest
from tritonclip._retry_after import retry_after
from tritonclip._settings import Connection, ServerUrl

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", _defaults.MAX_ANSWER_BYTES),
    # Spread over all addresses of a name (a headless Kubernetes service, say), not only the first.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Clients do not share connections: else a new client would inherit an older one's wait before reconnecting.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's own waits grow to two minutes, longer than our requests may take; a server that restarts is back sooner.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The timeout is also that of TCP for what is sent and not acknowledged; pings find peers that died in a long call.
    ("grpc.keepalive_time_ms", 1000 * _defaults.PING_SECONDS),
    ("grpc.keepalive_timeout_ms", 1000 * _defaults.UNACKNOWLEDGED_SECONDS),
]

# Codes that gRPC also makes up on this side when there is no server behind the channel.
_AMBIGUOUS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def target(url: ServerUrl) -> str:
    """gRPC's name for a server: resolved by DNS, all addresses of it."""
    return f"dns:///{url.authority}"


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel to the server; it connects at the first call."""
    if _forks.was_disturbed and not cygrpc.is_fork_support_enabled():
        raise ConfigError(  # else gRPC would abort the process, sooner or later
            "this process was forked while gRPC calls were under way, and gRPC was imported before tritonclip could "
            f"have it support that: set {_forks.GRPC_SUPPORT}=1, or use http://"
        )
    proxy = connection.proxy
    options = [*OPTIONS, ("grpc.http_proxy", proxy.url) if proxy else ("grpc.enable_http_proxy", 0)]
    if not connection.url.is_secure:
        return grpc.insecure_channel(target(connection.url), options=options)
    certificate, key = connection.client_certificate, connection.client_key or connection.client_certificate
    credentials = grpc.ssl_channel_credentials(
        connection.ca_file.read_bytes() if connection.ca_file else None,
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
    return grpc.secure_channel(target(connection.url), credentials, options=options)


def metadata(call: Call, admin_key: str | None) -> tuple[tuple[str, str], ...]:
    """Headers of a call: the admin key goes to calls that may be restricted, and nowhere else."""
    if admin_key is None or not isinstance(call, StatisticsRequest):
        return ()
    return (("triton-grpc-protocol-admin-key", admin_key),)


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


def is_ambiguous(error: grpc.RpcError) -> bool:
    """Whether the channel's state must tell if a server sent this error."""
    return error.code() in _AMBIGUOUS


def translate(error: grpc.RpcError, call: Call, url: ServerUrl, *, connected: bool) -> TritonClipError:
    """The package's error for one of gRPC's.

    ``connected`` says whether the channel had a live connection right after the failure. gRPC reports a queue that is
    full and a port where nobody listens with the same code, but the channel is READY in the first case only.
    """
    reason = error.details() or "no reason given"
    if not connected and is_ambiguous(error):
        return ConnectError(str(url), reason)
    trailers = dict(error.trailing_metadata() or ())
    return status_error(error.code().name, reason, call.model, retry_after(trailers.get("retry-after")))
