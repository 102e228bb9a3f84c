"""gRPC, blocking. A channel and its stub may be used by any number of threads."""

import queue
from typing import Any

import grpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip import _codec_grpc
from tritonclip._messages import Call, Reply
from tritonclip._settings import ServerUrl
from tritonclip._transports._grpc_common import OPTIONS, is_ambiguous, metadata, target, translate

_STATE_TIMEOUT = 5.0


class GrpcTransport:
    """Sends calls over one gRPC channel."""

    def __init__(self, url: ServerUrl, admin_key: str | None) -> None:
        self._url = url
        self._admin_key = admin_key
        if url.is_secure:
            self._channel = grpc.secure_channel(target(url), grpc.ssl_channel_credentials(), options=OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target(url), options=OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)

    def send(self, call: Call, timeout: float) -> Reply:
        """Send a call and wait for its reply."""
        method, message = _codec_grpc.encode(call)
        return _codec_grpc.decode(call, self.exchange(call, method, message, timeout))

    def exchange(self, call: Call, method: str, message: Any, timeout: float) -> Any:
        """The answer to a call that is encoded already, as it came; load tests encode before their clock starts."""
        try:
            return getattr(self._stub, method)(message, timeout=timeout, metadata=metadata(call, self._admin_key))
        except grpc.RpcError as exc:
            connected = not is_ambiguous(exc) or self._is_ready()
            raise translate(exc, call, self._url, connected=connected) from exc

    def close(self) -> None:
        """Close the channel; calls still on the wire are cancelled."""
        self._channel.close()

    def _is_ready(self) -> bool:
        # A channel tells a new subscriber its present state at once. Subscribing for good would cost a polling thread.
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        self._channel.subscribe(states.put)
        try:
            return states.get(timeout=_STATE_TIMEOUT) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            self._channel.unsubscribe(states.put)
