"""Hugging Face's feature extraction and its text-embeddings-inference (TEI)."""

import base64
from typing import Any

import numpy as np
import pytest

from tests.images import RED, RED_URL
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip.testing import FakeServer, features_of

PATHS = ["/", "/embed", "/pipeline/feature-extraction/fake", "/models/fake/pipeline/feature-extraction"]
LONG = " ".join(["word"] * 100)


def expected(*items: bytes) -> Any:
    return pytest.approx(np.stack([features_of(item, 16) for item in items]), abs=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_list_of_vectors_whatever_is_given(gateway: Gateway, path: str) -> None:
    assert gateway.post(path, inputs=["a", "b", RED_URL]) == expected(b"a", b"b", RED)
    assert gateway.post(path, inputs="a") == expected(b"a")


SAME = [
    {"normalize": True, "truncate": True, "truncation_direction": "Right", "prompt_name": None},
    {"options": {"wait_for_model": True, "use_cache": False}},
    {"parameters": {"normalize": True, "truncation_direction": "right"}},
    {"parameters": {}},
    {"dimensions": 16, "encoding_format": "float"},
]


@pytest.mark.parametrize("options", SAME)
def test_what_changes_nothing_is_taken(gateway: Gateway, options: dict[str, Any]) -> None:
    assert gateway.post("/embed", inputs="a", **options) == expected(b"a")


def test_base64_is_little_endian_float32(gateway: Gateway) -> None:
    (row,) = gateway.post("/embed", inputs="a", encoding_format="base64")
    assert np.frombuffer(base64.b64decode(row), "<f4")[None] == expected(b"a")


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"normalize": False}, "invalid_value", "normalize"),
        ({"parameters": {"normalize": False}}, "invalid_value", "normalize"),
        ({"parameters": {"nonsense": 1}}, "unknown_field", "nonsense"),
        ({"parameters": [1]}, "unknown_field", "parameters"),
        ({"truncation_direction": "left"}, "invalid_value", "truncation_direction"),
        ({"dimensions": 8}, "unsupported_dimensions", "dimensions"),
    ],
)
def test_what_it_does_not_do_is_refused(gateway: Gateway, options: dict[str, Any], code: str, param: str) -> None:
    answer = gateway.http.post("/embed", json={"inputs": "a", **options})
    error = answer.json()
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert error["error_type"] == "Validation"


def test_cut_texts_are_in_a_header_or_refused(gateway: Gateway) -> None:
    assert gateway.http.post("/embed", json={"inputs": ["a", LONG]}).headers["x-truncated"] == "1"
    answer = gateway.http.post("/embed", json={"inputs": ["a", LONG], "truncate": False})
    assert answer.json()["code"] == "text_too_long"
    assert "inputs[1]" in answer.json()["error"]


def test_tei_ranks_texts(gateway: Gateway) -> None:
    ranks = gateway.post("/rerank", query="a", texts=["b", "a", "c"], raw_scores=False)
    assert ranks[0] == {"index": 1, "score": pytest.approx(1)}
    assert [rank["score"] for rank in ranks] == sorted((rank["score"] for rank in ranks), reverse=True)
    assert {rank["index"] for rank in ranks} == {0, 1, 2}
    assert gateway.post("/rerank", query="a", texts=["b", "a"], return_text=True)[0]["text"] == "a"


def test_tei_ranks_tell_what_was_cut(gateway: Gateway) -> None:
    answer = gateway.http.post("/rerank", json={"query": LONG, "texts": ["a", LONG]})
    assert answer.headers["x-truncated"] == "1"
    refused = gateway.http.post("/rerank", json={"query": "a", "texts": ["a", LONG], "truncate": False}).json()
    assert (refused["code"], refused["error_type"]) == ("text_too_long", "Validation")


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"query": 3, "texts": ["a"]}, "query"),
        ({"query": "a", "texts": []}, "texts"),
        ({"query": "a", "texts": ["a", RED_URL]}, "texts[1]"),
        ({"query": "a", "texts": ["a"], "documents": ["a"]}, "documents"),
        ({"texts": ["a"]}, "query"),
    ],
)
def test_tei_reads_what_is_wrong_with_its_ranks(gateway: Gateway, document: dict[str, Any], param: str) -> None:
    answer = gateway.http.post("/rerank", json=document)
    assert (answer.status_code, answer.json()["param"]) == (400, param)
    assert isinstance(answer.json()["error"], str)


def test_info(gateway: Gateway) -> None:
    info = gateway.http.get("/info").json()
    assert info["model_id"] == "fake"
    assert (info["max_input_length"], info["max_client_batch_size"]) == (77, 2048)
    assert list(info["model_type"]) == ["embedding"]


def test_health_is_whether_the_model_is_ready(gateway: Gateway) -> None:
    for path in ("/health", "/v1/health", "/v1/health/ready", "/health/ready"):
        assert gateway.http.get(path).json() == {"status": "ready"}
    assert gateway.http.get("/v1/health/live").json() == {"status": "live"}


def test_health_is_503_where_it_is_not() -> None:
    with gateway_over(FakeServer(manifest={"embedding_width": 17})) as gateway:
        for path in ("/health", "/v1/health", "/v1/health/ready", "/.well-known/ready"):
            assert gateway.http.get(path).status_code == 503
        for path in ("/v1/health/live", "/.well-known/live"):
            assert gateway.http.get(path).status_code in (200, 204)
