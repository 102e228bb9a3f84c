"""Doors of one request each: Voyage's multimodal embeddings, vLLM's score, NVIDIA's ranking, Weaviate's, Jina's."""

import base64
from typing import Any

import numpy as np
import pytest

from tests.images import BLUE_URL, RED, RED_URL, base64_of
from tests.unit.gateway.conftest import CLOSE, Gateway
from tritonclip.testing import features_of
from tritonclip_server.gateway.responses.encodings import quantized
from tritonclip_server.gateway.routes.jina import JinaClassifyResponse
from tritonclip_server.gateway.routes.nim import RankingResponse
from tritonclip_server.gateway.routes.vllm import ScoreResponse
from tritonclip_server.gateway.routes.voyage import MultimodalResponse

LONG = " ".join(["word"] * 100)


def features(*items: bytes) -> Any:
    return np.stack([features_of(item, 16) for item in items])


def text(content: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": content}]}


class TestVoyage:
    """`/v1/multimodalembeddings`."""

    path = "/v1/multimodalembeddings"
    inputs = (
        text("a"),
        {"content": [{"type": "image_base64", "image_base64": RED_URL}]},
        {"content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": RED_URL}]},
    )

    def test_each_input_has_a_vector(self, gateway: Gateway) -> None:
        answer = gateway.post(self.path, inputs=self.inputs, model="fake", input_type="query", truncation=True)
        MultimodalResponse.model_validate(answer)
        vectors = [entry["embedding"] for entry in answer["data"]]
        assert vectors == pytest.approx(features(b"a", RED, RED), abs=1e-6)
        assert answer["usage"] == {
            "text_tokens": 3, "image_pixels": 0, "video_pixels": 0, "total_tokens": 3, "num_images": 2,
        }  # fmt: skip

    @pytest.mark.parametrize("option", ["output_encoding", "encoding_format"])
    def test_base64_is_of_the_dtype(self, gateway: Gateway, option: str) -> None:
        answer = gateway.post(self.path, inputs=[text("a")], output_dtype="int8", **{option: "base64"})
        found = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), np.int8)
        assert found.tolist() == quantized(features(b"a"), "int8")[0].tolist()
        numbers = gateway.post(self.path, inputs=[text("a")], output_dtype="ubinary")["data"][0]["embedding"]
        assert numbers == quantized(features(b"a"), "ubinary")[0].tolist()

    def test_a_long_text_is_named_or_refused(self, gateway: Gateway) -> None:
        assert gateway.post(self.path, inputs=[text("a"), text(LONG)])["truncated"] == [1]
        error = gateway.refused(self.path, 400, inputs=[text("a"), text(LONG)], truncation=False)
        assert (error["code"], error["param"]) == ("text_too_long", "inputs[1].content[0].text")

    def test_several_parts_are_no_vector(self, gateway: Gateway) -> None:
        content = [*text("a")["content"], {"type": "image_url", "image_url": RED_URL}]
        error = gateway.refused(self.path, 400, inputs=[{"content": content}])
        assert error["param"] == "inputs[0].content"
        assert "one text or one image" in error["message"]


class TestScore:
    """vLLM's `/score`."""

    def test_one_with_each_of_several(self, gateway: Gateway) -> None:
        answer = gateway.post("/score", text_1="a", text_2=["a", "b", RED_URL])
        ScoreResponse.model_validate(answer)
        cosines = features(b"a") @ features(b"a", b"b", RED).T
        assert [entry["score"] for entry in answer["data"]] == pytest.approx(cosines[0], abs=CLOSE)
        assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("first", "second"),
        [("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2"), ("queries", "items")],
    )
    def test_as_many_with_as_many(self, gateway: Gateway, first: str, second: str) -> None:
        answer = gateway.post("/v1/score", **{first: ["a", "b"], second: ["b", "b"]})
        assert [entry["score"] for entry in answer["data"]] == pytest.approx(
            [float(features(b"a")[0] @ features(b"b")[0]), 1], abs=CLOSE
        )

    def test_contents_of_parts(self, gateway: Gateway) -> None:
        both = {"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": RED_URL}}]}
        answer = gateway.post("/score", queries="a", documents=both)
        assert [entry["score"] for entry in answer["data"]] == gateway_scores(gateway, "a", ["a", RED_URL])
        answer = gateway.post("/score", queries="a", documents=[text("b"), text("a")])
        assert [entry["score"] for entry in answer["data"]] == gateway_scores(gateway, "a", ["b", "a"])

    @pytest.mark.parametrize(("first", "second"), [(["a", "b"], ["a"]), (["a", "b"], ["a", "b", "c"])])
    def test_sides_that_do_not_pair(self, gateway: Gateway, first: list[str], second: list[str]) -> None:
        assert gateway.refused("/score", 400, text_1=first, text_2=second)["param"] == "text_1"

    def test_both_sides_are_needed_once(self, gateway: Gateway) -> None:
        assert gateway.refused("/score", 400, text_1="a")["param"] == "documents"
        assert gateway.refused("/score", 400, text_1="a", queries="a", text_2="b")["param"] == "text_1"


def gateway_scores(gateway: Gateway, query: str, documents: list[str]) -> list[float]:
    answer = gateway.post("/v1/rerank", query=query, documents=documents)
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    return pytest.approx([found[index] for index in range(len(documents))], abs=CLOSE)  # type: ignore[return-value]


def test_nvidias_rankings_are_by_the_models_logits(gateway: Gateway) -> None:
    passages = [{"text": "b"}, {"text": "a"}, {"image": RED_URL}]
    answer = gateway.post("/v1/ranking", model="fake", query={"text": "a"}, passages=passages, truncate="END")
    RankingResponse.model_validate(answer)
    logits = {entry["index"]: entry["logit"] for entry in answer["rankings"]}
    cosines = (features(b"a") @ features(b"b", b"a", RED).T)[0]
    assert [logits[index] for index in range(3)] == pytest.approx(100 * cosines, abs=100 * CLOSE)
    assert list(logits.values()) == sorted(logits.values(), reverse=True)


def test_nvidias_ranking_names_what_was_cut_or_refuses_it(gateway: Gateway) -> None:
    request = {"query": {"text": LONG}, "passages": [{"text": "a"}, {"text": LONG}]}
    answer = gateway.post("/v1/ranking", **request)
    assert (answer["truncated"], answer["query_truncated"]) == ([1], True)
    error = gateway.refused("/v1/ranking", 400, **request, truncate="NONE")
    assert (error["code"], error["param"]) == ("text_too_long", "query.text")
    error = gateway.refused("/v1/ranking", 400, query={"text": "a"}, passages=[{"text": "a", "image": RED_URL}])
    assert error["param"] == "passages[0]"


class TestWeaviate:
    """`/vectorize` and what Weaviate asks besides."""

    @pytest.mark.parametrize("nothing", [None, []])
    def test_texts_and_images_apart(self, gateway: Gateway, nothing: Any) -> None:
        both = gateway.post("/vectorize", texts=["a", "b"], images=[base64_of(RED)])
        assert both["textVectors"] == pytest.approx(features(b"a", b"b"), abs=1e-6)
        assert both["imageVectors"] == pytest.approx(features(RED), abs=1e-6)
        assert gateway.post("/vectorize", texts=["a"], images=nothing)["imageVectors"] == []
        assert gateway.post("/vectorize", texts=nothing, images=[RED_URL, BLUE_URL])["textVectors"] == []
        answer = gateway.http.post("/vectorize", json={"texts": nothing, "images": nothing})
        assert (answer.status_code, answer.json()["code"]) == (400, "missing_field")

    def test_a_long_text_is_cut_and_named(self, gateway: Gateway) -> None:
        assert gateway.http.post("/vectorize", json={"texts": ["a", LONG]}).headers["x-truncated"] == "1"

    def test_it_is_ready_and_says_what_it_is(self, gateway: Gateway) -> None:
        for path in ("/.well-known/ready", "/.well-known/live"):
            answer = gateway.http.get(path)
            assert (answer.status_code, answer.content) == (204, b"")
        assert gateway.http.get("/meta").json()["id"] == "fake"


class TestJina:
    """`/v1/classify` with `input`."""

    path = "/v1/classify"

    def test_the_best_label_and_the_scores_of_all(self, gateway: Gateway) -> None:
        labels = ["c", "a", "d"]
        answer = gateway.post(self.path, model="fake", input=["a", {"text": "d"}, {"image": RED_URL}], labels=labels)
        JinaClassifyResponse.model_validate(answer)
        assert [entry["prediction"] for entry in answer["data"][:2]] == ["a", "d"]
        logits = 100 * features(b"a", b"d", RED) @ features(b"c", b"a", b"d").T
        softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax /= softmax.sum(axis=1, keepdims=True)
        for entry, row in zip(answer["data"], softmax, strict=True):
            assert [each["label"] for each in entry["predictions"]] == labels
            assert [each["score"] for each in entry["predictions"]] == pytest.approx(row, abs=1e-4)
            assert entry["score"] == max(each["score"] for each in entry["predictions"])

    def test_our_own_is_told_apart_by_its_images(self, gateway: Gateway) -> None:
        assert "labels" in gateway.post(self.path, image=RED_URL, labels=["a", "b"])["data"][0]

    @pytest.mark.parametrize(
        ("labels", "code", "param"),
        [
            (["a"], "invalid_value", "labels"),
            (["a", "a"], "duplicate_label", "labels[1]"),
            ("a, b", "invalid_value", "labels"),
            (["a", RED_URL], "not_a_text", "labels[1]"),
        ],
    )
    def test_labels_that_are_none(self, gateway: Gateway, labels: Any, code: str, param: str) -> None:
        error = gateway.refused(self.path, 400, input=["x"], labels=labels)
        assert (error["code"], error["param"]) == (code, param)

    def test_labels_that_were_cut_are_named(self, gateway: Gateway) -> None:
        assert gateway.post(self.path, input=["x"], labels=["a", LONG])["truncated"] == [1]


def test_voyage_reads_its_ranks_in_data(gateway: Gateway) -> None:
    answer = gateway.post("/v1/rerank", query="a", documents=["b", "a"], model="fake", top_k=None, truncation=True)
    assert answer["data"] == answer["results"]
    assert [entry["index"] for entry in answer["data"]] == [1, 0]
    assert len(gateway.post("/v1/rerank", query="a", documents=["b", "a"], top_k=1)["data"]) == 1
    unasked = gateway.post("/v1/rerank", query="a", documents=["b", "a"], return_documents=True)
    assert unasked["data"] == answer["data"]  # its client for JavaScript sends nothing that tells it from Cohere's
    assert unasked["results"][0]["document"] == {"text": "a"}
    assert "data" not in gateway.post("/v2/rerank", query="a", documents=["b", "a"])


def test_the_name_that_infinitys_client_sends_unasked_is_none(gateway: Gateway) -> None:
    answer = gateway.post("/embeddings", model="default/not-specified", input=["a"], dimensions=0, modality="text")
    assert answer["model"] == "fake"
    assert gateway.refused("/embeddings", 404, model="default/specified", input="a")["code"] == "model_not_found"


def test_reranks_object_is_infinitys(gateway: Gateway) -> None:
    """Its client takes no other; nobody else's looks."""
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        assert gateway.post(path, query="a", documents=["a", "b"])["object"] == "rerank"
