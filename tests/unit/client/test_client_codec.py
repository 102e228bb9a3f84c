"""Tensors and both wire formats: round trips, and answers that are not what they should be."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from tritonclip import InvalidArgumentError, ProtocolError
from tritonclip.protocol import grpc_codec, http_codec
from tritonclip.protocol.messages import (
    InferRequest,
    InferResponse,
    LoadModelRequest,
    ModelReadyRequest,
    ModelStatistics,
    ServerInfoRequest,
    StatisticsRequest,
    Tensor,
    UnloadModelRequest,
)

REQUEST = InferRequest("embed_text", (Tensor.from_items("text", [b"a", b""]),), ("text_features",))


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_items_come_back(items: list[bytes]) -> None:
    tensor = Tensor.from_items("image", items)
    assert tensor.shape == (len(items), 1)
    assert tensor.items() == items


def test_items_are_written_as_triton_reads_them() -> None:
    assert Tensor.from_items("text", [b"ab", b""]).data == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


@given(st.integers(0, 5), st.integers(1, 5), st.data())
def test_arrays_come_back(rows: int, columns: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(width=32), min_size=rows * columns, max_size=rows * columns))
    array = np.array(values, dtype=np.float32).reshape(rows, columns)
    tensor = Tensor.from_array("features", array)
    assert tensor.data == struct.pack(f"<{rows * columns}f", *values)
    np.testing.assert_array_equal(tensor.array(), array)
    assert tensor.array().flags.writeable


def test_a_slice_is_written_in_its_own_order() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[::2, ::-1]
    np.testing.assert_array_equal(Tensor.from_array("features", array).array(), array)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((1, 1), b"\x05\x00\x00\x00abc"),  # says five bytes, has three
        ((1, 1), b"\x01\x00"),  # half a length
        ((2, 1), b"\x01\x00\x00\x00a"),  # one element for two
        ((1, 1), b"\x01\x00\x00\x00a\x01\x00\x00\x00b"),
        ((-1, -1), b"\x01\x00\x00\x00a"),
    ],
)
def test_malformed_items(shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(ProtocolError, match="tensor manifest"):
        Tensor("manifest", "BYTES", shape, data).items()


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [("FP32", (2, 2), 12), ("FP32", (2, 2), 20), ("FP32", (-1, -4), 16), ("FP16", (2, 2), 16), ("BYTES", (4,), 16)],
)
def test_malformed_arrays(datatype: str, shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ProtocolError, match="tensor cosine"):
        Tensor("cosine", datatype, shape, bytes(size)).array()


def test_a_missing_output_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"lacks 'cosine'.*\['logits'\]"):
        InferResponse((Tensor("logits", "FP32", (0,), b""),))["cosine"]


class TestGrpc:
    def test_request(self) -> None:
        method, message = grpc_codec.encode(REQUEST)
        assert method == "ModelInfer"
        assert message.model_name == "embed_text"
        assert [(entry.name, entry.datatype, list(entry.shape)) for entry in message.inputs] == [
            ("text", "BYTES", [2, 1])
        ]
        assert list(message.raw_input_contents) == [REQUEST.inputs[0].data]
        assert [entry.name for entry in message.outputs] == ["text_features"]

    @given(st.lists(st.binary(max_size=8), max_size=4))
    def test_response(self, parts: list[bytes]) -> None:
        tensors = tuple(Tensor(f"t{index}", "UINT8", (len(part),), part) for index, part in enumerate(parts))
        message = pb.ModelInferResponse()
        for tensor in tensors:
            message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            message.raw_output_contents.append(tensor.data)
        assert grpc_codec.decode(REQUEST, message) == InferResponse(tensors)

    def test_outputs_without_raw_data(self) -> None:
        message = pb.ModelInferResponse()
        message.outputs.add(name="text_features", datatype="FP32", shape=[1, 1])
        with pytest.raises(ProtocolError, match="1 outputs with 0 data parts"):
            grpc_codec.decode(REQUEST, message)

    def test_other_calls(self) -> None:
        assert grpc_codec.encode(ServerInfoRequest())[0] == "ServerMetadata"
        method, message = grpc_codec.encode(ModelReadyRequest("compare"))
        assert (method, message.name) == ("ModelReady", "compare")
        assert grpc_codec.decode(ModelReadyRequest("compare"), pb.ModelReadyResponse(ready=True)) is True

    def test_statistics_of_a_model_never_asked(self) -> None:
        message = pb.ModelStatisticsResponse()
        message.model_stats.add(name="compare", version="1")
        (entry,) = grpc_codec.decode(StatisticsRequest(), message)  # type: ignore[misc]
        assert entry == ModelStatistics("compare", "1", 0, 0, 0.0, 0.0)
        assert entry.mean_batch == 0.0


class TestHttp:
    def test_request(self) -> None:
        request = http_codec.encode(REQUEST)
        assert (request.method, request.path) == ("POST", "/v2/models/embed_text/infer")
        position = int(request.headers["inference-header-content-length"])
        assert json.loads(request.content[:position]) == {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 9}}],
            "outputs": [{"name": "text_features", "parameters": {"binary_data": True}}],
        }
        assert request.content[position:] == REQUEST.inputs[0].data

    @given(st.lists(st.binary(max_size=8), max_size=4))
    def test_response(self, parts: list[bytes]) -> None:
        tensors = tuple(Tensor(f"t{index}", "UINT8", (len(part),), part) for index, part in enumerate(parts))
        assert self.decode(*self.response(tensors)) == InferResponse(tensors)

    def test_a_body_cut_short(self) -> None:
        headers, body = self.response((Tensor("t", "UINT8", (8,), b"12345678"),))
        with pytest.raises(ProtocolError, match="past the end"):
            self.decode(headers, body[:-1])

    def test_a_body_with_more(self) -> None:
        headers, body = self.response((Tensor("t", "UINT8", (8,), b"12345678"),))
        with pytest.raises(ProtocolError, match="1 bytes after"):
            self.decode(headers, body + b"x")

    @pytest.mark.parametrize("length", ["-1", "1000000", "many"])
    def test_a_wrong_header_length(self, length: str) -> None:
        _, body = self.response((Tensor("t", "UINT8", (8,), b"12345678"),))
        with pytest.raises(ProtocolError):
            self.decode({"inference-header-content-length": length}, body)

    @pytest.mark.parametrize("status", [400, 404, 503])
    def test_not_ready_is_an_answer(self, status: int) -> None:
        assert http_codec.decode(ModelReadyRequest("compare"), status, {}, b"") is False

    def test_model_names_are_quoted(self) -> None:
        assert http_codec.encode(ModelReadyRequest("a/b c")).path == "/v2/models/a%2Fb%20c/ready"

    @staticmethod
    def response(tensors: tuple[Tensor, ...]) -> tuple[dict[str, str], bytes]:
        outputs = [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(tensor.data)},
            }
            for tensor in tensors
        ]
        head = json.dumps({"outputs": outputs}).encode()
        return {"inference-header-content-length": str(len(head))}, head + b"".join(tensor.data for tensor in tensors)

    @staticmethod
    def decode(headers: dict[str, str], body: bytes) -> Any:
        return http_codec.decode(REQUEST, 200, headers, body)


def test_loading_and_unloading_a_model() -> None:
    load, unload = LoadModelRequest("head/a b", '{"name": "x"}'), UnloadModelRequest("head")
    sent = http_codec.encode(load)
    assert (sent.method, sent.path) == ("POST", "/v2/repository/models/head%2Fa%20b/load")
    assert json.loads(sent.content) == {"parameters": {"config": '{"name": "x"}'}}
    assert http_codec.encode(LoadModelRequest("head")).content == b""
    assert http_codec.encode(unload).path == "/v2/repository/models/head/unload"
    method, message = grpc_codec.encode(load)
    assert (method, message.model_name) == ("RepositoryModelLoad", "head/a b")
    assert message.parameters["config"].string_param == '{"name": "x"}'
    assert grpc_codec.encode(LoadModelRequest("head"))[1] == pb.RepositoryModelLoadRequest(model_name="head")
    assert grpc_codec.encode(unload) == ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="head"))
    assert http_codec.decode(load, 200, {}, b"") is grpc_codec.decode(unload, None) is True
    with pytest.raises(InvalidArgumentError, match="load failed"):
        http_codec.decode(load, 400, {}, b'{"error": "load failed for model"}')
