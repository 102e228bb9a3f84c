"""gRPC for asyncio."""

import grpc
import grpc.aio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip import _codec_grpc
from tritonclip._messages import Call, Reply
from tritonclip._settings import ServerUrl
from tritonclip._transports._grpc_common import OPTIONS, metadata, target, translate


class AsyncGrpcTransport:
    """Sends calls over one gRPC channel, which is opened by the first call: a channel belongs to the running loop."""

    def __init__(self, url: ServerUrl, admin_key: str | None) -> None:
        self._url = url
        self._admin_key = admin_key
        self._channel: grpc.aio.Channel | None = None
        self._stub: GRPCInferenceServiceStub | None = None

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ASYNC109 - the deadline goes on the wire
        """Send a call and wait for its reply."""
        channel = self._open()
        method, message = _codec_grpc.encode(call)
        try:
            answer = await getattr(self._stub, method)(
                message, timeout=timeout, metadata=metadata(call, self._admin_key)
            )
        except grpc.RpcError as exc:
            connected = channel.get_state() is grpc.ChannelConnectivity.READY
            raise translate(exc, call, self._url, connected=connected) from exc
        return _codec_grpc.decode(call, answer)

    async def aclose(self) -> None:
        """Close the channel; calls still on the wire are cancelled."""
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._url.is_secure:
                credentials = grpc.ssl_channel_credentials()
                self._channel = grpc.aio.secure_channel(target(self._url), credentials, options=OPTIONS)
            else:
                self._channel = grpc.aio.insecure_channel(target(self._url), options=OPTIONS)
            self._stub = GRPCInferenceServiceStub(self._channel)
        return self._channel
