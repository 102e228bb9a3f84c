"""Calls to gRPC messages and back, pure: no channel, no I/O.

Tensor data travels in ``raw_input_contents`` and ``raw_output_contents``, one entry for each tensor, in order.
"""

from typing import Any

from tritonclient.grpc import service_pb2 as pb

from tritonclip._errors import ProtocolError
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


def encode(call: Call) -> tuple[str, Any]:
    """The method of ``GRPCInferenceServiceStub`` for a call, and the protobuf message for it."""
    if isinstance(call, InferRequest):
        return "ModelInfer", _encode_infer(call)
    if isinstance(call, ServerInfoRequest):
        return "ServerMetadata", pb.ServerMetadataRequest()
    if isinstance(call, ModelReadyRequest):
        return "ModelReady", pb.ModelReadyRequest(name=call.model)
    if isinstance(call, LoadModelRequest):
        message = pb.RepositoryModelLoadRequest(model_name=call.model)
        if call.config is not None:
            message.parameters["config"].string_param = call.config
        return "RepositoryModelLoad", message
    if isinstance(call, UnloadModelRequest):
        return "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=call.model)
    return "ModelStatistics", pb.ModelStatisticsRequest()


def decode(call: Call, message: Any) -> Reply:
    """The reply to a call, from the message that came back. Raises ProtocolError where it has no sense."""
    if isinstance(call, InferRequest):
        return _decode_infer(message)
    if isinstance(call, ServerInfoRequest):
        return ServerInfo(message.name, message.version)
    if isinstance(call, ModelReadyRequest):
        return bool(message.ready)
    if isinstance(call, LoadModelRequest | UnloadModelRequest):
        return True
    return tuple(_decode_statistics(entry) for entry in message.model_stats)


def _encode_infer(request: InferRequest) -> Any:
    message = pb.ModelInferRequest(model_name=request.model, id=request.id)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(tensor.data)
    for name in request.outputs:
        output = message.outputs.add(name=name)
        if name in request.classes:
            output.parameters["classification"].int64_param = request.classes[name]
    return message


def _decode_infer(message: Any) -> InferResponse:
    if len(message.outputs) != len(message.raw_output_contents):
        raise ProtocolError(
            f"{message.model_name}: {len(message.outputs)} outputs with {len(message.raw_output_contents)} data parts"
        )
    return InferResponse(
        tuple(
            Tensor(output.name, output.datatype, tuple(output.shape), data)
            for output, data in zip(message.outputs, message.raw_output_contents, strict=True)
        )
    )


def _decode_statistics(entry: Any) -> ModelStatistics:
    stages = entry.inference_stats
    return ModelStatistics(
        entry.name,
        entry.version,
        entry.inference_count,
        entry.execution_count,
        mean_ms(stages.queue.count, stages.queue.ns),
        mean_ms(stages.compute_infer.count, stages.compute_infer.ns),
    )
