"""Calls to HTTP requests and back, pure: no client, no I/O.

Inference uses Triton's binary tensor extension: a body is a JSON header followed by each tensor's data, and the header
``Inference-Header-Content-Length`` says where the JSON ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tritonclip._errors import ProtocolError, StatusError
from tritonclip.protocol._json import parse_json
from tritonclip.protocol.messages import (
    Call,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    ModelReadyRequest,
    ModelStatistics,
    Reply,
    ServerInfo,
    ServerInfoRequest,
    Tensor,
    UnloadModelRequest,
    mean_ms,
)
from tritonclip.protocol.statuses import code_of_http_status, parse_retry_after, status_error

JSON_LENGTH = "inference-header-content-length"
REASON_CHARACTERS = 4096  # of a server's words are worth keeping


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request; ``path`` comes after the server's URL, which may have a path itself."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


def encode(call: Call) -> HttpRequest:
    """The HTTP request for a call, with headers of its own; keys and headers of the connection are not among them."""
    if isinstance(call, InferRequest):
        return _encode_infer(call)
    if isinstance(call, ServerInfoRequest):
        return HttpRequest("GET", "/v2")
    if isinstance(call, ModelReadyRequest):
        return HttpRequest("GET", f"/v2/models/{quote(call.model, safe='')}/ready")
    if isinstance(call, LoadModelRequest):
        content = b"" if call.config is None else json.dumps({"parameters": {"config": call.config}}).encode()
        return HttpRequest("POST", f"/v2/repository/models/{quote(call.model, safe='')}/load", content=content)
    if isinstance(call, UnloadModelRequest):
        return HttpRequest("POST", f"/v2/repository/models/{quote(call.model, safe='')}/unload")
    return HttpRequest("GET", "/v2/models/stats")


def decode(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply to a call, from the HTTP response (header names in lower case).

    Raises the StatusError of an error status, and ProtocolError where the body is not what it should be.
    """
    if isinstance(call, ModelReadyRequest) and status in (200, 400, 404, 503):
        return status == 200
    if status != 200:
        raise _decode_error(call, status, headers, body)
    if isinstance(call, LoadModelRequest | UnloadModelRequest):
        return True
    try:
        if isinstance(call, InferRequest):
            return _decode_infer(headers, body)
        document = parse_json(body)
        if isinstance(call, ServerInfoRequest):
            return ServerInfo(str(document["name"]), str(document["version"]))
        return tuple(_decode_statistics(entry) for entry in document["model_stats"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ProtocolError(f"{call.model or 'server'}: not a Triton response ({exc!r})") from exc


def _encode_infer(request: InferRequest) -> HttpRequest:
    head = json.dumps(
        {
            **({"id": request.id} if request.id else {}),
            # Triton wants "inputs" even where a model has none.
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.shape),
                    "parameters": {"binary_data_size": len(tensor.data)},
                }
                for tensor in request.inputs
            ],
            "outputs": [{"name": name, "parameters": _output_parameters(request, name)} for name in request.outputs],
        },
        separators=(",", ":"),
    ).encode()
    return HttpRequest(
        "POST",
        f"/v2/models/{quote(request.model, safe='')}/infer",
        {**dict(request.headers), "Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))},
        b"".join([head, *(tensor.data for tensor in request.inputs)]),
    )


def _output_parameters(request: InferRequest, name: str) -> dict[str, Any]:
    classes = {"classification": request.classes[name]} if name in request.classes else {}
    return {"binary_data": True, **classes}


def _decode_infer(headers: Mapping[str, str], body: bytes) -> InferResponse:
    position = int(headers.get(JSON_LENGTH, len(body)))
    if not 0 <= position <= len(body):
        raise ProtocolError(f"a JSON header of {position} bytes in a body of {len(body)}")
    tensors = []
    for output in parse_json(body[:position])["outputs"]:
        size = int(output["parameters"]["binary_data_size"])
        if size < 0 or position + size > len(body):
            raise ProtocolError(f"tensor {output['name']} reaches past the end of the body")
        data = body[position : position + size]
        tensors.append(Tensor(str(output["name"]), str(output["datatype"]), _shape(output["shape"]), data))
        position += size
    if position != len(body):
        raise ProtocolError(f"{len(body) - position} bytes after the last tensor")
    return InferResponse(tuple(tensors))


def _shape(dims: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in dims)


def _decode_error(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
    try:
        reason = str(parse_json(body)["error"])
    except (ValueError, KeyError, TypeError):  # a proxy's page, or nothing
        reason = f"HTTP {status} {body[:200].decode(errors='replace').strip()}".rstrip()
    wait = parse_retry_after(headers.get("retry-after")) if status in (429, 503) else None
    return status_error(code_of_http_status(status), reason[:REASON_CHARACTERS], call.model, wait)


def _decode_statistics(entry: dict[str, Any]) -> ModelStatistics:
    stages = entry.get("inference_stats", {})

    def mean(stage: str) -> float:
        duration = stages.get(stage, {})
        return mean_ms(int(duration.get("count", 0)), int(duration.get("ns", 0)))

    return ModelStatistics(
        str(entry["name"]),
        str(entry["version"]),
        int(entry["inference_count"]),
        int(entry["execution_count"]),
        mean("queue"),
        mean("compute_infer"),
    )
