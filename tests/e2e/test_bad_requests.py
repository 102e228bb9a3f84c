"""Requests that no client of ours sends, to every model that Triton shows: each is refused by itself, and costs nobody.

What Triton itself lets through reaches the guards of our models. The table has both kinds, since which is which differs
between versions of Triton. Three things no model can guard against, and docs/architecture.md says so: the two kinds of
NOT_ALONE below, and features whose size wraps around 64 bits, which end a process of Triton 2.51.
"""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.reference import PHOTOS, cosines
from tritonclip import Client
from tritonclip_server.embedded.server import Server

WIDTH, LENGTH, SIDE = 128, 77, 64  # of the demonstration model
HUGE = 2**62
TOKENS = np.array([[49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70], np.int32)
FEATURES = np.eye(2, WIDTH, dtype=np.float32)
PHOTO = PHOTOS[0].read_bytes()


@dataclass(frozen=True)
class Input:
    name: str
    datatype: str
    shape: list[int]
    data: bytes


@dataclass(frozen=True)
class Bad:
    """A request, and words of the refusal where it is ours."""

    model: str
    inputs: list[Input]
    outputs: tuple[str, ...] = ()
    words: str = ""


def items(*values: bytes) -> bytes:
    """BYTES as they go over the wire."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def with_token(value: int) -> bytes:
    tokens = TOKENS.copy()
    tokens[0, 3] = value
    return tokens.tobytes()


def tokens(shape: list[int], data: bytes = TOKENS.tobytes(), datatype: str = "INT32", **rest: Any) -> Bad:
    return Bad("text_encoder", [Input("tokens", datatype, shape, data)], **rest)


def pixels(shape: list[int], data: bytes) -> Bad:
    return Bad("image_encoder", [Input("pixels", "UINT8", shape, data)])


def texts(model: str, shape: list[int], data: bytes, datatype: str = "BYTES", **rest: Any) -> Bad:
    name = "image" if model in ("image_preprocess", "embed_image", "classify_scenes") else "text"
    return Bad(model, [Input(name, datatype, shape, data)], **rest)


def scores(images: tuple[list[int], bytes], words: str = "", datatype: str = "FP32") -> Bad:
    good = Input("text_features", "FP32", [2, WIDTH], FEATURES.tobytes())
    return Bad("similarity", [Input("image_features", datatype, *images), good], words=words)


def head(shape: list[int], data: bytes, words: str = "") -> Bad:
    return Bad("head_scenes", [Input("image_features", "FP32", shape, data)], words=words)


def spoilt(value: float) -> bytes:
    features = FEATURES.copy()
    features[1, 5] = value
    return features.tobytes()


OUTSIDE, NOT_FINITE = "item 0 has an id outside the vocabulary", "item 1 has a value that is not finite"
ENSEMBLES_OF_BYTES = ("embed_text", "embed_image", "classify_scenes", "text_tokenize", "image_preprocess")
BAD = {
    "an id beyond the vocabulary": tokens([1, LENGTH], with_token(49408), words=OUTSIDE),
    "the largest id": tokens([1, LENGTH], with_token(2**31 - 1), words=OUTSIDE),
    "a negative id": tokens([1, LENGTH], with_token(-1), words=OUTSIDE),
    "ids of 64 bits": tokens([1, LENGTH], TOKENS.astype(np.int64).tobytes(), "INT64"),
    "ids as floats": tokens([1, LENGTH], datatype="FP32"),
    "ids as texts": tokens([1, LENGTH], items(*[b"1"] * LENGTH), "BYTES"),
    "ids of an unknown type": tokens([1, LENGTH], datatype="INT3"),
    "a row too short": tokens([1, LENGTH - 1], TOKENS.tobytes()[:-4]),
    "a row with no batch": tokens([LENGTH]),
    "no rows": tokens([0, LENGTH], b""),
    "a negative number of rows": tokens([-1, LENGTH]),
    "more rows than a batch": tokens([65, LENGTH], TOKENS.tobytes() * 65),
    "rows without end and no bytes": tokens([HUGE, LENGTH], b""),
    "rows without end and one": tokens([HUGE, LENGTH]),
    "rows without end of width 1": tokens([HUGE, 1], b""),
    "too few bytes": tokens([1, LENGTH], TOKENS.tobytes()[:-1]),
    "too many bytes": tokens([1, LENGTH], TOKENS.tobytes() * 2),
    "no input": Bad("text_encoder", []),
    "an input twice": Bad("text_encoder", [Input("tokens", "INT32", [1, LENGTH], TOKENS.tobytes())] * 2),
    "an unknown input": Bad("text_encoder", [Input("token", "INT32", [1, LENGTH], TOKENS.tobytes())]),
    "an unknown output": tokens([1, LENGTH], outputs=("features",)),
    "no pixels": pixels([0, 3, SIDE, SIDE], b""),
    "pixels without end": pixels([2**52, 3, SIDE, SIDE], b""),
    "channels last": pixels([1, SIDE, SIDE, 3], bytes(3 * SIDE * SIDE)),
    "features that are not numbers": scores(([2, WIDTH], spoilt(np.nan)), NOT_FINITE),
    "infinite features": scores(([2, WIDTH], spoilt(-np.inf)), NOT_FINITE),
    "no features": scores(([0, WIDTH], b""), "image_features: no items"),
    "features with no batch": scores(([WIDTH], FEATURES[0].tobytes())),
    "features of another width": scores(([2, WIDTH // 2], FEATURES[0].tobytes())),
    "features as doubles": scores(([1, WIDTH], FEATURES.tobytes()), datatype="FP64"),
    "features that no head can score": head([2, WIDTH], spoilt(np.nan), NOT_FINITE),
    "infinite features for a head": head([2, WIDTH], spoilt(np.inf), NOT_FINITE),
    "no features for a head": head([0, WIDTH], b""),
    "an input for the manifest": Bad("manifest", [Input("x", "INT32", [1], b"\0\0\0\0")]),
    "an unknown output of the manifest": Bad("manifest", [], ("secrets",)),
    "a gate with texts without end": Bad("text_gate", [
        Input("image_features", "FP32", [1, WIDTH], FEATURES[:1].tobytes()), Input("text", "BYTES", [HUGE, 1], b""),
    ]),
    "a comparison of no images": Bad("compare", [
        Input("image", "BYTES", [0, 1], b""), Input("text", "BYTES", [1, 1], items(b"a")),
    ]),
    "a comparison with no texts": Bad("compare", [
        Input("image", "BYTES", [1, 1], items(PHOTO)), Input("text", "BYTES", [0, 1], b""),
    ]),
    "a comparison with texts without end": Bad("compare", [
        Input("image", "BYTES", [1, 1], items(PHOTO)), Input("text", "BYTES", [HUGE, 1], b""),
    ]),
    "an unknown model": Bad("text_encoders", []),
}  # fmt: skip
for model in ENSEMBLES_OF_BYTES:
    BAD |= {
        f"{model}: no items": texts(model, [0, 1], b""),
        f"{model}: an item of no bytes at all": texts(model, [1, 1], b""),
        f"{model}: items without end": texts(model, [HUGE, 1], b""),
        f"{model}: half a length": texts(model, [1, 1], b"\x01\x00"),
        f"{model}: a length beyond the end": texts(model, [1, 1], struct.pack("<I", 1000) + b"abc"),
        f"{model}: a length of 4 GiB": texts(model, [1, 1], struct.pack("<I", 2**32 - 1) + b"abc"),
        f"{model}: a length before the end": texts(model, [1, 1], struct.pack("<I", 1) + b"abc"),
        f"{model}: two items in place of one": texts(model, [1, 1], items(b"a", b"b")),
        f"{model}: one in place of two": texts(model, [2, 1], items(b"a")),
        f"{model}: two in a row": texts(model, [1, 2], items(b"a", b"b")),
        f"{model}: bytes of another type": texts(model, [1, 1], b"a", "UINT8"),
    }
BAD["text_tokenize: items without end and one"] = texts(
    "text_tokenize", [HUGE, 1], items(b"a cat"), words="text: shape [1], expected [-1, 1]"
)
# Triton refuses these itself, and with them whatever is in their batch: the Python backend fails a batch as a whole.
NOT_ALONE = {"rows without end and one"} | {name for name in BAD if "a length beyond" in name or "of 4 GiB" in name}
NOT_OVER_HTTP = {"an input twice"}  # its JSON reader takes the first


def grpc_request(case: Bad) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=case.model)
    for given in case.inputs:
        request.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
        request.raw_input_contents.append(given.data)
    for name in case.outputs:
        request.outputs.add(name=name)
    return request


def http_request(case: Bad) -> dict[str, Any]:
    """Path, body and headers, tensors in the binary extension."""
    inputs = [
        {"name": i.name, "datatype": i.datatype, "shape": i.shape, "parameters": {"binary_data_size": len(i.data)}}
        for i in case.inputs
    ]
    document: dict[str, Any] = {"inputs": inputs}
    if case.outputs:
        document["outputs"] = [{"name": name} for name in case.outputs]
    front = json.dumps(document).encode()
    return {
        "url": f"/v2/models/{case.model}/infer",
        "content": front + b"".join(given.data for given in case.inputs),
        "headers": {"Inference-Header-Content-Length": str(len(front))},
    }


@pytest.fixture
def same_processes(demo_server: Server) -> Iterator[None]:
    """Whatever a test sends, the very processes that were there before are there afterwards, and all is ready."""
    before = processes(demo_server)
    yield
    assert processes(demo_server) == before
    with Client(demo_server.grpc_url) as client:
        assert client.status().ready


def processes(server: Server) -> dict[int, str]:
    triton = psutil.Process(server.pid)
    return {process.pid: process.status() == psutil.STATUS_ZOMBIE for process in (triton, *triton.children())}


@pytest.fixture
def stub(demo_server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(demo_server.grpc_url.removeprefix("grpc://")) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.usefixtures("same_processes")
def test_each_is_refused_over_grpc(stub: Any) -> None:
    for name, case in BAD.items():
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(grpc_request(case), timeout=60)
        error: Any = caught.value
        codes = {"INVALID_ARGUMENT"} if case.words else {"INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}
        assert error.code().name in codes, (name, error.details())
        assert case.words in error.details(), name


@pytest.mark.usefixtures("same_processes")
def test_each_is_refused_over_http(demo_server: Server) -> None:
    with httpx.Client(base_url=demo_server.http_url, timeout=60) as http:
        for name, case in BAD.items():
            if name in NOT_OVER_HTTP:
                continue
            answer = http.post(**http_request(case))
            assert answer.status_code in ({400} if case.words else {400, 404, 500}), (name, answer.text)
            assert case.words in answer.json()["error"], name


JSON_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"inputs": {}}',
    b'{"inputs": [[]]}',
    b'{"inputs": [{"name": "tokens"}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": "all", "data": []}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1.5, 77], "data": []}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [-1, 77], "data": []}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [4611686018427387904, 77], "data": []}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [18446744073709551617, 77], "data": []}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 77], "data": ["a"]}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 77], "data": [99999999999]}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 77], "data": [1, 2, 3]}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 77], "data": {"a": 1}}]}',
    b'{"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 77], "data": '
    + b"[" * 300
    + b"]" * 300
    + b"}]}",
]


@pytest.mark.usefixtures("same_processes")
def test_each_wrong_json_is_refused(demo_server: Server) -> None:
    with httpx.Client(base_url=demo_server.http_url, timeout=60) as http:
        for body in JSON_BODIES:
            answer = http.post("/v2/models/text_encoder/infer", content=body)
            assert answer.status_code in (400, 500), (body, answer.text)


@pytest.mark.usefixtures("same_processes")
def test_bad_requests_cost_those_that_are_batched_with_them_nothing(stub: Any) -> None:
    """Of each kind that reaches a model: eight bad ones among sixteen good ones, all under way at once."""
    kinds = {
        "text_encoder": (tokens([1, LENGTH]), ["an id beyond the vocabulary", "a negative id"]),
        "head_scenes": (head([2, WIDTH], FEATURES.tobytes()), ["features that no head can score"]),
        "text_tokenize": (
            texts("text_tokenize", [1, 1], items(b"a cat")),
            ["text_tokenize: items without end and one"],
        ),
    }
    for model, (good, bad) in kinds.items():
        expected = stub.ModelInfer(grpc_request(good), timeout=60).raw_output_contents
        for _ in range(5):
            cases = [good, BAD[bad[0]], good, good, BAD[bad[-1]], good] * 4
            calls = [stub.ModelInfer.future(grpc_request(case), timeout=60) for case in cases]
            for case, call in zip(cases, calls, strict=True):
                if case is not good:
                    assert call.code().name == "INVALID_ARGUMENT", (model, call.details())
                    continue
                for output, values in zip(call.result().raw_output_contents, expected, strict=True):
                    close = np.frombuffer(output, np.float32) - np.frombuffer(values, np.float32)
                    assert np.abs(close).max() < 1e-4, model


@pytest.mark.usefixtures("same_processes")
def test_other_clients_notice_nothing(demo_server: Server, stub: Any) -> None:
    sentences = [f"a photo of {number} things" for number in range(40)]
    with Client(demo_server.grpc_url, timeout=120) as client:
        calls: list[Callable[[], Any]] = [
            lambda: client.embed_images(PHOTOS).features,
            lambda: client.embed_texts(sentences).features,
            lambda: client.compare(PHOTOS[:2], sentences[:3]).cosine,
            lambda: np.array([[p.cosine for p in row] for row in client.classify(PHOTOS[:2], label_set="scenes")]),
        ]
        expected = [call() for call in calls]
        answers: list[list[Any]] = [[] for _ in calls]
        over = threading.Event()

        def ask(number: int) -> None:
            while not over.is_set():
                answers[number].append(calls[number]())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        for case in [case for name, case in BAD.items() if name not in NOT_ALONE] * 3:
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(grpc_request(case), timeout=60)
        over.set()
        for thread in threads:
            thread.join()
    for found, right in zip(answers, expected, strict=True):
        assert found
        for answer in found:
            assert cosines(answer, right).min() > 0.9999
