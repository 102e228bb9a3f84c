"""The protocol between clients and the server: messages, codecs, and transports, for programs that speak it themselves.

Load generators, proxies and tests want single calls in place of lists, retries and checks. What is here is public, and
all of it is what ``Client`` itself stands on::

    messages        calls and replies, free of any wire format: InferRequest(model, inputs, outputs) -> InferResponse
    grpc_codec      calls to protobuf messages and back; pure
    http_codec      calls to HTTP requests and back; pure
    names           what models are called on a server that carries several
    statuses        what error codes and HTTP statuses become: the StatusErrors of ``tritonclip``
    connection      URLs, keys, headers and files of certificates, from arguments and the environment
    proxies         which proxy stands before a server
    transport       Transport and AsyncTransport, and how one is opened
    grpc_transport  gRPC: channels, metadata, the mapping of errors; imported only where it is used
    http_transport  HTTP/1.1; imported only where it is used

The names below are those of the modules that import neither gRPC nor HTTP.

>>> from tritonclip.protocol import InferRequest, Tensor, open_transport, resolve_connection
>>> transport = open_transport(resolve_connection("grpc://localhost:8001"))
>>> request = InferRequest("embed_text", (Tensor.from_items("text", [b"a cat"]),), ("text_features",))
>>> transport.start(request, timeout=5.0).result()["text_features"].array()  # float32 [1, D]
"""

from tritonclip.protocol._futures import answered
from tritonclip.protocol.connection import (
    Connection,
    ServerUrl,
    each_server,
    parse_url,
    resolve_admin_key,
    resolve_connection,
    resolve_url,
)
from tritonclip.protocol.messages import (
    Call,
    FloatArray,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    ModelReadyRequest,
    ModelStatistics,
    Reply,
    ServerInfo,
    ServerInfoRequest,
    StatisticsRequest,
    Tensor,
    UnloadModelRequest,
)
from tritonclip.protocol.names import addressed, qualified
from tritonclip.protocol.statuses import code_of_http_status, refused_item, status_error
from tritonclip.protocol.transport import AsyncTransport, Transport, open_async_transport, open_transport

__all__ = [
    "AsyncTransport",
    "Call",
    "Connection",
    "FloatArray",
    "InferRequest",
    "InferResponse",
    "LoadModelRequest",
    "ModelReadyRequest",
    "ModelStatistics",
    "Reply",
    "ServerInfo",
    "ServerInfoRequest",
    "ServerUrl",
    "StatisticsRequest",
    "Tensor",
    "Transport",
    "UnloadModelRequest",
    "addressed",
    "answered",
    "code_of_http_status",
    "each_server",
    "open_async_transport",
    "open_transport",
    "parse_url",
    "qualified",
    "refused_item",
    "resolve_admin_key",
    "resolve_connection",
    "resolve_url",
    "status_error",
]
