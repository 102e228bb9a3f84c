"""gRPC. A channel may be used by any number of threads; it wants none of asyncio's loops for its own."""

import ssl
import weakref
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip import _codec_grpc, _forks
from tritonclip._errors import ClosedError, TritonClipError, status_error
from tritonclip._messages import Call, Reply
from tritonclip._settings import Connection
from tritonclip._tls import load_certificates
from tritonclip._transports._grpc_common import is_ambiguous, is_connected, metadata, open_channel, translate
from tritonclip._transports._lines import Line, LineTransport

Message = tuple[str, Any]
"""The stub's method, and the protobuf message for it."""


class GrpcTransport(LineTransport[Message, Any]):
    """Sends calls over gRPC."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        if connection.url.is_secure:
            # gRPC would say what is wrong with a file at the first call alone, and in words that do not name it.
            load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connection)

    def _open(self) -> "GrpcLine":
        return GrpcLine(self._connection)

    def _encode(self, call: Call) -> Message:
        return _codec_grpc.encode(call)

    def _decode(self, call: Call, answer: Any) -> Reply:
        return _codec_grpc.decode(call, answer)


class GrpcLine(Line[Message, Any]):
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
        headers = (*self._connection.headers, *metadata(call, self._connection.admin_key))
        with _forks.gate:
            try:
                rpc = getattr(self._stub, method).future(request, timeout=timeout, metadata=headers)
            except ValueError as exc:  # closed by another thread since this line was taken
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
            connected = not is_ambiguous(exc) or is_connected(self._channel)
            error = translate(exc, call, self._connection.url, connected=connected)
            error.__cause__ = exc
            return error


def _close(channel: grpc.Channel) -> None:
    with _forks.gate:
        channel.close()
