"""Similarity, classification and ranking: every number against what a client of the same server computes."""

from typing import Any

import numpy as np
import pytest

from tests.images import BLUE, BLUE_URL, RED, RED_URL, base64_of, data_url
from tests.unit.gateway.conftest import CLOSE, LABEL_SETS, Gateway, gateway_over, refuse
from tritonclip import Client
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.responses.response_models import ClassifyResponse, RerankResponse, SimilarityResponse

SIMILARITY, CLASSIFY, RERANK = "/v1/similarity", "/v1/classify", "/v1/rerank"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"


@pytest.mark.parametrize("bias", [None, -10.0])
def test_similarity_is_what_the_client_says(bias: float | None) -> None:
    fake = FakeServer(manifest={"logit_scale": 20.0, "logit_bias": bias})
    with gateway_over(fake) as gateway, Client(transport=fake.transport()) as client:
        answer = gateway.post(SIMILARITY, images=[RED_URL, base64_of(BLUE)], texts=["a", "b", "c"])
        expected = client.compare([RED, BLUE], ["a", "b", "c"])
    SimilarityResponse.model_validate(answer)
    np.testing.assert_allclose(answer["cosine"], expected.cosine, rtol=0, atol=CLOSE)
    for name in ("logits", "probabilities"):  # a probability is never further apart than its logits
        np.testing.assert_allclose(answer[name], getattr(expected, name), rtol=0, atol=20 * CLOSE)


@pytest.mark.parametrize(
    "document",
    [
        {"image": RED_URL, "text": "a"},
        {"images": RED_URL, "texts": "a"},
        {"image": [RED_URL], "text": ["a"]},
        {"image": {"url": RED_URL}, "text": "a"},
    ],
)
def test_singular_and_plural_mean_the_same(gateway: Gateway, document: dict[str, Any]) -> None:
    assert gateway.post(SIMILARITY, **document) == gateway.post(SIMILARITY, image=RED_URL, text="a")


def test_cosines_are_none_above_one(gateway: Gateway) -> None:
    """A vector's product with itself is rounded, and comes out above 1 for some."""
    texts = [f"text {number}" for number in range(60)]
    cosines = np.array([gateway.post(RERANK, query=t, documents=[t])["results"][0]["relevance_score"] for t in texts])
    np.testing.assert_allclose(cosines, 1, rtol=0, atol=CLOSE)
    assert (cosines <= 1).all()


def test_similarity_by_form(gateway: Gateway) -> None:
    files = [("image", ("red.png", RED)), ("image", ("blue.png", BLUE))]
    answer = gateway.http.post(SIMILARITY, files=files, data={"text": ["a", "b"]}).json()
    assert answer == gateway.post(SIMILARITY, images=[RED_URL, BLUE_URL], texts=["a", "b"])


def test_partial_similarity_has_null_rows(gateway: Gateway) -> None:
    answer = gateway.post(SIMILARITY, images=[data_url(b"no"), RED_URL], texts=["a", "b"], partial=True)
    SimilarityResponse.model_validate(answer)
    assert answer["cosine"][0] == answer["logits"][0] == answer["probabilities"][0] == [None, None]
    alone = gateway.post(SIMILARITY, image=RED_URL, texts=["a", "b"])
    assert answer["cosine"][1] == pytest.approx(alone["cosine"][0], abs=CLOSE)
    assert [(error["index"], error["param"]) for error in answer["errors"]] == [(0, "images[0]")]


def test_classify_is_what_the_client_says(gateway: Gateway) -> None:
    labels = ["cat", "dog", "cow"]
    answer = gateway.post(CLASSIFY, images=[RED_URL, BLUE_URL], labels=labels, template="one {}, please")
    ClassifyResponse.model_validate(answer)
    with Client(transport=gateway.fake.transport()) as client:
        expected = client.classify([RED, BLUE], labels, template="one {}, please")
    for entry, predictions in zip(answer["data"], expected, strict=True):
        assert [label["label"] for label in entry["labels"]] == [best.label for best in predictions]
        logits, probabilities = ([getattr(best, name) for best in predictions] for name in ("logit", "probability"))
        assert [label["logit"] for label in entry["labels"]] == pytest.approx(logits, abs=100 * CLOSE)
        assert [label["probability"] for label in entry["labels"]] == pytest.approx(probabilities, abs=100 * CLOSE)


def test_classify_by_a_stored_label_set(gateway: Gateway) -> None:
    answer = gateway.post(CLASSIFY, images=[RED_URL, BLUE_URL], label_set="colours", top_k=2)
    ClassifyResponse.model_validate(answer)
    with Client(transport=gateway.fake.transport()) as client:
        expected = client.classify([RED, BLUE], label_set="colours", top_k=2)
    for entry, predictions in zip(answer["data"], expected, strict=True):
        assert [label["label"] for label in entry["labels"]] == [best.label for best in predictions]
        assert len(predictions) == 2


@pytest.mark.parametrize("source", [{"labels": LABEL_SETS["colours"]}, {"label_set": "colours"}])
def test_top_k_and_threshold(gateway: Gateway, source: dict[str, Any]) -> None:
    everything = gateway.post(CLASSIFY, image=RED_URL, **source)["data"][0]["labels"]
    assert len(everything) == 3
    assert gateway.post(CLASSIFY, image=RED_URL, top_k=1, **source)["data"][0]["labels"] == everything[:1]
    likely = [label for label in everything if label["probability"] >= 0.5]
    assert gateway.post(CLASSIFY, image=RED_URL, threshold=0.5, **source)["data"][0]["labels"] == likely
    assert len(likely) == 1


def test_a_threshold_that_none_reaches_means_none_of_these() -> None:
    fake = FakeServer(manifest={"logit_scale": 0.01})  # so that probabilities are nearly equal
    with gateway_over(fake) as gateway:
        answer = gateway.post(CLASSIFY, image=RED_URL, labels=["a", "b"], threshold=0.9)
    assert answer["data"] == [{"index": 0, "labels": []}]


@pytest.mark.parametrize("source", [{"labels": ["a", "b"]}, {"label_set": "colours"}])
def test_partial_classification(gateway: Gateway, source: dict[str, Any]) -> None:
    images = [data_url(b"no"), RED_URL, "!", BLUE_URL]
    answer = gateway.post(CLASSIFY, images=images, partial=True, **source)
    assert [entry["index"] for entry in answer["data"]] == [1, 3]
    alone = gateway.post(CLASSIFY, image=RED_URL, **source)["data"][0]["labels"]
    assert [label["label"] for label in answer["data"][0]["labels"]] == [label["label"] for label in alone]
    assert [(error["index"], error["param"]) for error in answer["errors"]] == [(0, "images[0]"), (2, "images[2]")]
    assert gateway.refused(CLASSIFY, 400, images=images, **source)["param"] == "images[0]"


def test_zero_shot_in_hugging_faces_shape(gateway: Gateway) -> None:
    parameters = {"candidate_labels": ["cat", "dog"]}
    answer = gateway.post(ZERO_SHOT, inputs=base64_of(RED), parameters=parameters)
    labels = gateway.post(CLASSIFY, image=RED_URL, labels=["cat", "dog"], template="This is a photo of {}.")
    assert answer == [{"label": label["label"], "score": label["probability"]} for label in labels["data"][0]["labels"]]
    other = gateway.post(ZERO_SHOT, inputs=RED_URL, parameters=parameters | {"hypothesis_template": "{}!"})
    assert other != answer


def test_zero_shot_by_form(gateway: Gateway) -> None:
    data = {"candidate_labels": ["cat", "dog"], "hypothesis_template": "{}!"}
    answer = gateway.http.post(ZERO_SHOT, files={"image": ("red.png", RED)}, data=data).json()
    assert answer == gateway.post(ZERO_SHOT, inputs=RED_URL, parameters=data)


@pytest.mark.parametrize("query", ["a query", {"image": RED_URL}, RED_URL])
@pytest.mark.parametrize("path", [RERANK, "/v2/rerank"])
def test_rerank_orders_by_cosine(gateway: Gateway, query: Any, path: str) -> None:
    documents = ["one", {"text": "two"}, {"image": BLUE_URL}, "three"]
    answer = gateway.post(path, query=query, documents=documents, return_documents=True)
    RerankResponse.model_validate(answer)
    given = gateway.post("/v1/embeddings", input=[query, *documents])["data"]
    features = np.array([entry["embedding"] for entry in given])
    cosines = features[1:] @ features[0]
    assert [result["index"] for result in answer["results"]] == list(np.argsort(-cosines))
    assert [result["relevance_score"] for result in answer["results"]] == pytest.approx(
        sorted(cosines, reverse=True), abs=CLOSE
    )
    for result in answer["results"]:
        given_document = documents[result["index"]]
        assert result["document"] == (given_document if isinstance(given_document, dict) else {"text": given_document})


def test_rerank_top_n_and_partial(gateway: Gateway) -> None:
    everything = gateway.post(RERANK, query="q", documents=["a", "b", "c"])["results"]
    assert "document" not in everything[0]
    assert gateway.post(RERANK, query="q", documents=["a", "b", "c"], top_n=2)["results"] == everything[:2]
    answer = gateway.post(RERANK, query="q", documents=["a", {"image": "!"}, "c"], partial=True)
    assert sorted(result["index"] for result in answer["results"]) == [0, 2]
    assert [(error["index"], error["param"]) for error in answer["errors"]] == [(1, "documents[1].image")]


def test_rerank_by_form(gateway: Gateway) -> None:
    files = [("documents", ("red.png", RED)), ("documents", ("blue.png", BLUE))]
    answer = gateway.http.post(RERANK, files=files, data={"query": "a"}).json()
    json_response = gateway.post(RERANK, query="a", documents=[RED_URL, BLUE_URL])
    assert answer["results"] == json_response["results"]


def test_models_say_what_is_deployed(gateway: Gateway) -> None:
    listed = gateway.http.get("/v1/models").json()["data"]
    assert listed == [gateway.http.get("/v1/models/fake").json()]
    facts = {name: listed[0][name] for name in ("id", "dimensions", "resolution", "precision", "fingerprint")}
    assert facts == {"id": "fake", "dimensions": 16, "resolution": 32, "precision": "fp32", "fingerprint": "fa4e0000"}
    colours = {"labels": 3, "templates": 1, "kind": "zero-shot", "threshold": None, "activation": "softmax"}
    assert listed[0]["label_sets"] == {"colours": colours}
    assert refuse("image", RED) is None
