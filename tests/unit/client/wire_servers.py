"""Real servers on loopback around a FakeServer: gRPC and HTTP as Triton speaks them.

The wire is written here a second time, with struct and NumPy and none of the package's codecs, so that a mistake in
those shows.
"""

import json
import ssl
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.unit.client.authority import Certificate
from tritonclip import StatusError
from tritonclip.protocol.messages import (
    Call,
    InferRequest,
    InferResponse,
    ModelReadyRequest,
    ServerInfo,
    ServerInfoRequest,
    StatisticsRequest,
    Tensor,
)
from tritonclip.protocol.statuses import CODE_BY_HTTP_STATUS
from tritonclip.testing import FakeServer

HTTP_STATUS = {code: status for status, code in sorted(CODE_BY_HTTP_STATUS.items(), reverse=True)} | {"CANCELLED": 499}


def wire_items(data: bytes) -> list[bytes]:
    items = []
    while data:
        (length,) = struct.unpack("<I", data[:4])
        assert len(data) >= 4 + length
        items.append(data[4 : 4 + length])
        data = data[4 + length :]
    return items


def checked(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    """A tensor from a request, held against what Triton requires of it."""
    if datatype == "BYTES":
        assert shape == (len(wire_items(data)), 1)
    else:
        assert datatype == "FP32"
        assert len(data) == 4 * int(np.prod(shape))
    return Tensor(name, datatype, shape, data)


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.metadata: list[tuple[str, dict[str, str]]] = []
        self.peers: list[tuple[str, Call]] = []

    def _answer(self, call: Call, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self.metadata.append((type(call).__name__, metadata))
        self.peers.append((context.peer(), call))
        try:
            return self.fake.answer(call, metadata.get("triton-grpc-protocol-admin-key"))
        except StatusError as exc:
            context.abort(grpc.StatusCode[exc.status_code], exc.reason)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = tuple(
            checked(tensor.name, tensor.datatype, tuple(tensor.shape), data)
            for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True)
        )
        outputs = tuple(output.name for output in request.outputs)
        classes = {
            output.name: output.parameters["classification"].int64_param
            for output in request.outputs
            if "classification" in output.parameters
        }
        reply = self._answer(InferRequest(request.model_name, inputs, outputs, classes, request.id), context)
        assert isinstance(reply, InferResponse)
        message = pb.ModelInferResponse(model_name=request.model_name)
        for tensor in reply.outputs:
            message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            message.raw_output_contents.append(tensor.data)
        return message

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = self._answer(ServerInfoRequest(), context)
        return pb.ServerMetadataResponse(name=info.name, version=info.version)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ModelReadyResponse(ready=self._answer(ModelReadyRequest(request.name), context))

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        message = pb.ModelStatisticsResponse()
        for entry in self._answer(StatisticsRequest(), context):
            statistics = message.model_stats.add(
                name=entry.name,
                version=entry.version,
                inference_count=entry.inference_count,
                execution_count=entry.execution_count,
            )
            statistics.inference_stats.queue.count = 2
            statistics.inference_stats.queue.ns = round(entry.queue_ms * 2e6)
            statistics.inference_stats.compute_infer.count = 4
            statistics.inference_stats.compute_infer.ns = round(entry.compute_ms * 4e6)
        return message


@dataclass(frozen=True)
class Tls:
    """A server's certificate and, where clients must show one, the authority of theirs."""

    own: Certificate
    of_clients: Path | None = None


@contextmanager
def serve_grpc(fake: FakeServer, port: int = 0, tls: Tls | None = None) -> Iterator[tuple[str, _Servicer]]:
    """Serve over gRPC; yields the URL and the servicer."""
    server = grpc.server(
        ThreadPoolExecutor(8),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    servicer = _Servicer(fake)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    if tls is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        pair = (tls.own.key.read_bytes(), tls.own.certificate.read_bytes())
        authority = tls.of_clients.read_bytes() if tls.of_clients else None
        credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    try:
        yield f"{'grpcs' if tls else 'grpc'}://127.0.0.1:{port}", servicer
    finally:
        server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_HttpServer"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v2":
            self._answer(ServerInfoRequest())
        elif self.path == "/v2/models/stats":
            self._answer(StatisticsRequest())
        elif self.path.startswith("/v2/models/") and self.path.endswith("/ready"):
            self._answer(ModelReadyRequest(self.path.split("/")[3]))
        else:
            self._send(404, b"no such path")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        position = int(self.headers["Inference-Header-Content-Length"])
        document = json.loads(body[:position])
        tensors = []
        for tensor in document["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            data = body[position : position + size]
            tensors.append(checked(tensor["name"], tensor["datatype"], tuple(tensor["shape"]), data))
            position += size
        assert position == len(body)
        assert all(output["parameters"]["binary_data"] is True for output in document["outputs"])
        outputs = tuple(output["name"] for output in document["outputs"])
        classes = {
            output["name"]: output["parameters"]["classification"]
            for output in document["outputs"]
            if "classification" in output["parameters"]
        }
        model, request_id = self.path.split("/")[3], document.get("id", "")
        self._answer(InferRequest(model, tuple(tensors), outputs, classes, request_id))

    def _answer(self, call: Call) -> None:
        self.server.headers_seen.append((type(call).__name__, dict(self.headers)))
        self.server.peers.append((str(self.client_address), call))
        key = self.headers.get("admin-key")
        try:
            reply = self.server.fake.answer(call, key)
        except StatusError as exc:
            status = HTTP_STATUS.get(exc.status_code, 500)
            if isinstance(call, StatisticsRequest) and exc.status_code == "UNAVAILABLE":
                status = 403  # how Triton refuses a restricted API over HTTP
            self._send(self.server.force_status or status, json.dumps({"error": exc.reason}).encode())
            return
        if isinstance(reply, InferResponse):
            head = json.dumps(
                {
                    "outputs": [
                        {
                            "name": tensor.name,
                            "datatype": tensor.datatype,
                            "shape": list(tensor.shape),
                            "parameters": {"binary_data_size": len(tensor.data)},
                        }
                        for tensor in reply.outputs
                    ]
                }
            ).encode()
            body = head + b"".join(tensor.data for tensor in reply.outputs)
            self._send(200, body, {"Inference-Header-Content-Length": str(len(head))})
        elif isinstance(reply, bool):
            self._send(200 if reply else 400, b"")
        elif isinstance(reply, ServerInfo):
            self._send(200, json.dumps({"name": reply.name, "version": reply.version, "extensions": []}).encode())
        else:
            stats = [
                {
                    "name": entry.name,
                    "version": entry.version,
                    "inference_count": entry.inference_count,
                    "execution_count": entry.execution_count,
                    "inference_stats": {
                        "queue": {"count": 2, "ns": round(entry.queue_ms * 2e6)},
                        "compute_infer": {"count": 4, "ns": round(entry.compute_ms * 4e6)},
                    },
                }
                for entry in reply
            ]
            self._send(200, json.dumps({"model_stats": stats}).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    fake: FakeServer
    force_status: int | None = None

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.headers_seen: list[tuple[str, dict[str, str]]] = []
        self.peers: list[tuple[str, Call]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # connections that break off are part of what is tested


@contextmanager
def serve_http(fake: FakeServer, port: int = 0, tls: Tls | None = None) -> Iterator[tuple[str, _HttpServer]]:
    """Serve over HTTP; yields the URL and the server."""
    server = _HttpServer(port)
    server.fake = fake
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.of_clients)
        context.load_cert_chain(tls.own.certificate, tls.own.key)
        context.verify_mode = ssl.CERT_REQUIRED if tls.of_clients else ssl.CERT_NONE
        # The handshake is made in the connection's own thread, not where connections are accepted.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
