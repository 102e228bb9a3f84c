"""Labels: lists in every shape that clients send, and what the probability of one or of two equal ones would say."""

# ruff: noqa: E501 - tables of strings, several on a line

import html
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from tests.images import BLUE_URL, RED, RED_URL, base64_of, data_url
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip import AsyncClient, Embeddings
from tritonclip.testing import FakeServer, features_of
from tritonclip_server.gateway.responses.response_models import ClassifyResponse, ModelResponse, SimilarityResponse
from tritonclip_server.gateway.routes.jina import JinaClassifyResponse

CLASSIFY, SIMILARITY = "/v1/classify", "/v1/similarity"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"
LABELS = ["red triangle", "blue star"]


def zero_shot(gateway: Gateway, **document: Any) -> list[str]:
    return [best["label"] for best in gateway.post(ZERO_SHOT, **document)]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": RED_URL, "parameters": {"candidate_labels": LABELS}},
        {"inputs": RED_URL, "parameters": {"candidate_labels": "red triangle,blue star"}},
        {"inputs": RED_URL, "parameters": {"candidate_labels": " red triangle , blue star, "}},
        {"image": base64_of(RED), "parameters": {"candidate_labels": LABELS}},
        {"image": base64_of(RED), "parameters": {"candidate_labels": "red triangle, blue star"}},
        {"inputs": {"image": RED_URL, "candidate_labels": LABELS}},
        {"inputs": {"image": RED_URL, "candidate_labels": "red triangle, blue star"}},
        {"inputs": {"image": RED_URL}, "parameters": {"candidate_labels": LABELS}},
        {"inputs": RED_URL, "candidate_labels": "red triangle, blue star"},
        {"inputs": {"image": {"url": RED_URL}}, "parameters": {"candidate_labels": LABELS}},
        {
            "inputs": RED_URL,
            "parameters": {"hypothesis_template": "This is a photo of {}."},
            "candidate_labels": LABELS,
        },
    ],
)
def test_hugging_faces_clients_of_all_years(gateway: Gateway, document: dict[str, Any]) -> None:
    assert gateway.post(ZERO_SHOT, **document) == gateway.post(
        ZERO_SHOT, inputs=RED_URL, parameters={"candidate_labels": LABELS}
    )


def test_a_list_of_hugging_faces_labels_is_not_split(gateway: Gateway) -> None:
    assert sorted(zero_shot(gateway, inputs=RED_URL, parameters={"candidate_labels": ["a, b", "c"]})) == ["a, b", "c"]


@pytest.mark.parametrize(
    "fields",
    [[("candidate_labels", "a, b")], [("candidate_labels", '["a", "b"]')], [("candidate_labels", "a"), ("candidate_labels", "b")]],
)  # fmt: skip
def test_hugging_faces_labels_in_a_form(gateway: Gateway, fields: list[tuple[str, str]]) -> None:
    answer = gateway.http.post(ZERO_SHOT, files=[("image", ("a.png", RED)), *((n, (None, v)) for n, v in fields)])
    assert answer.json() == gateway.post(ZERO_SHOT, inputs=RED_URL, parameters={"candidate_labels": ["a", "b"]})


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": RED_URL, "candidate_labels": ["a", "b"], "parameters": {"candidate_labels": ["c", "d"]}},
        {"inputs": RED_URL, "image": BLUE_URL, "parameters": {"candidate_labels": ["a", "b"]}},
        {"inputs": {"image": RED_URL, "x": 1}, "parameters": {"candidate_labels": ["a", "b"]}},
    ],
)
def test_what_is_said_twice_is_refused(gateway: Gateway, document: dict[str, Any]) -> None:
    assert gateway.refused(ZERO_SHOT, 400, **document)["code"] == "unknown_field"


@pytest.mark.parametrize(
    "text",
    ["a, b", "a,b", "a; b", "a\nb", "a\r\nb", "a|b", "a\tb", "a\uff0cb", "a\u3001b", '["a", "b"]', "['a', 'b']", "[a]", ' ["a"] ', "a\u061b b", "a \uff5c b", "a\u2029b", "\u2022 a \u2022 b", "a\uff64b"],
)  # fmt: skip
def test_one_string_where_a_list_belongs_is_refused_with_the_remedy(gateway: Gateway, text: str) -> None:
    error = gateway.refused(CLASSIFY, 400, image=RED_URL, labels=text)
    assert (error["code"], error["param"]) == ("invalid_value", "labels")
    assert "list" in error["message"]
    one = gateway.post(CLASSIFY, image=RED_URL, labels=[text], template="{}")["data"][0]["labels"]
    assert [label["label"] for label in one] == [text]


@pytest.mark.parametrize("text", ["a", "a red triangle", " a ", "\na\n", "rock 'n' roll", "a/b", "a & b", "a: b"])
def test_one_string_that_can_only_be_one_label_is_one(gateway: Gateway, text: str) -> None:
    alone = gateway.post(CLASSIFY, image=RED_URL, labels=text)
    assert alone == gateway.post(CLASSIFY, image=RED_URL, labels=[text])


def test_commas_in_texts_are_commas(gateway: Gateway) -> None:
    assert len(gateway.post("/v1/embeddings", input="a, b")["data"]) == 1
    assert np.shape(gateway.post(SIMILARITY, image=RED_URL, text="a, b")["cosine"]) == (1, 1)
    assert len(gateway.post("/v1/rerank", query="a, b", documents="c, d")["results"]) == 1


def test_one_label_has_a_cosine_and_no_probability(gateway: Gateway) -> None:
    answer = gateway.post(CLASSIFY, images=[RED_URL, BLUE_URL], labels=["a"], template="{}")
    ClassifyResponse.model_validate(answer)
    for entry, image in zip(answer["data"], (RED_URL, BLUE_URL), strict=True):
        (label,) = entry["labels"]
        assert label["probability"] is None
        assert label["cosine"] == pytest.approx(
            gateway.post(SIMILARITY, image=image, text="a")["cosine"][0][0], abs=1e-5
        )
    error = gateway.refused(CLASSIFY, 400, image=RED_URL, labels=["a"], threshold=0.0)
    assert "min_cosine" in error["message"]


def test_one_text_has_no_probability_either(gateway: Gateway) -> None:
    answer = gateway.post(SIMILARITY, images=[RED_URL, BLUE_URL], text="a")
    SimilarityResponse.model_validate(answer)
    assert answer["probabilities"] == [[None], [None]]
    assert np.isfinite(answer["cosine"]).all()
    assert np.isfinite(answer["logits"]).all()


def test_a_stored_label_set_of_one(fake: FakeServer) -> None:
    with gateway_over(FakeServer(label_sets={"one": ["a"]})) as gateway:
        (label,) = gateway.post(CLASSIFY, image=RED_URL, label_set="one")["data"][0]["labels"]
        assert label["probability"] is None
        assert gateway.refused(CLASSIFY, 400, image=RED_URL, label_set="one", threshold=0.5)["param"] == "threshold"


def test_a_label_set_that_is_new_is_found_at_once() -> None:
    fake = FakeServer(label_sets={"one": ["a", "b"]})
    sets, fake.manifest["label_sets"] = fake.manifest["label_sets"], {}
    with gateway_over(fake) as gateway:
        assert gateway.refused(CLASSIFY, 400, image=RED_URL, label_set="one")["code"] == "unknown_label_set"
        fake.manifest["label_sets"] = sets
        assert len(gateway.post(CLASSIFY, image=RED_URL, label_set="one")["data"][0]["labels"]) == 2


def test_a_model_with_a_bias_needs_no_other_labels() -> None:
    """Its probabilities are a sigmoid of each."""
    with gateway_over(FakeServer(manifest={"logit_scale": 5.0, "logit_bias": -1.0})) as gateway:
        for document in ({"labels": ["a"]}, {"labels": "a", "threshold": 0.0}):
            (label,) = gateway.post(CLASSIFY, image=RED_URL, template="{}", **document)["data"][0]["labels"]
            assert label["probability"] == pytest.approx(1 / (1 + np.exp(-label["logit"])), rel=1e-4)
        (row,) = gateway.post(SIMILARITY, image=RED_URL, text="a")["probabilities"]
        assert row == [pytest.approx(label["probability"])]
        (best,) = gateway.post(ZERO_SHOT, inputs=RED_URL, parameters={"candidate_labels": ["a"]})
        assert 0 < best["score"] < 1


@pytest.fixture
def biased() -> Iterator[Gateway]:
    """A gateway over a model with a bias, a zero-shot label set and a trained one."""
    fake = FakeServer(label_sets={"colours": LABELS}, manifest={"logit_scale": 5.0, "logit_bias": -1.0})
    fake.store_label_set("birds", LABELS, trained=True)
    with gateway_over(fake) as running:
        yield running


def test_answers_say_what_a_probability_is(gateway: Gateway, biased: Gateway) -> None:
    for running, activation in ((gateway, "softmax"), (biased, "sigmoid")):
        answers: dict[type[BaseModel], Any] = {
            SimilarityResponse: running.post(SIMILARITY, image=RED_URL, texts=LABELS),
            ClassifyResponse: running.post(CLASSIFY, image=RED_URL, labels=LABELS),
            JinaClassifyResponse: running.post(CLASSIFY, input=[{"image": RED_URL}], labels=LABELS),
        }
        stored = running.post(CLASSIFY, image=RED_URL, label_set="colours")
        (model,) = running.http.get("/v1/models").json()["data"]
        document = {"inputs": RED_URL, "parameters": {"candidate_labels": LABELS}}
        for shape, answer in answers.items():
            shape.model_validate(answer)
        said = {answer["activation"] for answer in (*answers.values(), stored, model, model["label_sets"]["colours"])}
        assert said | {running.http.post(ZERO_SHOT, json=document).headers["x-activation"]} == {activation}
    answer = biased.post(CLASSIFY, image=RED_URL, label_set="birds")
    assert answer["activation"] == model["label_sets"]["birds"]["activation"] == "softmax"
    assert sum(label["probability"] for label in answer["data"][0]["labels"]) == pytest.approx(1)


@pytest.mark.parametrize("beside", [True, False])
def test_hugging_faces_multi_label_is_what_the_model_does_or_refused(
    gateway: Gateway, biased: Gateway, beside: bool
) -> None:
    def document(value: Any) -> dict[str, Any]:
        parameters = {"candidate_labels": LABELS}
        if beside:
            return {"inputs": RED_URL, "multi_label": value, "parameters": parameters}
        return {"inputs": RED_URL, "parameters": parameters | {"multi_label": value}}

    for running, independent in ((gateway, False), (biased, True)):
        bare = running.post(ZERO_SHOT, **document(None))
        assert running.post(ZERO_SHOT, **document(independent)) == bare
        error = running.refused(ZERO_SHOT, 400, **document(not independent))
        assert error["param"] == "parameters.multi_label"
        assert ("sigmoid" in error["message"], "softmax" in error["message"]) == (independent, not independent)


def test_equal_labels_of_a_model_with_a_bias_share_nothing(biased: Gateway) -> None:
    answer = biased.post(CLASSIFY, image=RED_URL, labels=["a", "b", "a "], template="{}")
    score = {label["index"]: label["probability"] for label in answer["data"][0]["labels"]}
    alone = biased.post(CLASSIFY, image=RED_URL, labels=["a"], template="{}")["data"][0]["labels"][0]["probability"]
    assert score[0] == pytest.approx(alone)
    assert len(score) == 3
    twice = biased.post(CLASSIFY, image=RED_URL, labels=["a", "a"], template="{}")["data"][0]["labels"]
    assert [label["probability"] for label in twice] == [pytest.approx(alone)] * 2


@pytest.mark.parametrize("source", [{"labels": ["red", "green", "blue"], "template": "{}"}, {"label_set": "colours"}])
def test_min_cosine_leaves_out_what_does_not_fit(gateway: Gateway, source: dict[str, Any]) -> None:
    everything = gateway.post(CLASSIFY, image=RED_URL, **source)["data"][0]["labels"]
    cosines = [label["cosine"] for label in everything]
    assert cosines == sorted(cosines, reverse=True)
    middle = (cosines[0] + cosines[1]) / 2
    kept = gateway.post(CLASSIFY, image=RED_URL, min_cosine=middle, **source)["data"][0]["labels"]
    assert kept == everything[:1]
    assert gateway.post(CLASSIFY, image=RED_URL, min_cosine=-1, **source)["data"][0]["labels"] == everything
    none = gateway.post(CLASSIFY, image=RED_URL, min_cosine=0.9999, **source)["data"]
    assert none == [{"index": 0, "labels": []}]
    both = gateway.post(CLASSIFY, image=RED_URL, min_cosine=middle, threshold=1.0, **source)["data"][0]["labels"]
    assert both == [label for label in kept if label["probability"] >= 1.0]


def test_none_of_these_can_be_said_of_one_label(gateway: Gateway) -> None:
    cosine = float(features_of(RED, 16) @ features_of(b"a", 16))
    for least, labels in ((cosine + 0.01, 0), (cosine - 0.01, 1)):
        answer = gateway.post(CLASSIFY, image=RED_URL, labels=["a"], template="{}", min_cosine=least)
        assert len(answer["data"][0]["labels"]) == labels


@pytest.mark.parametrize(
    ("labels", "param"),
    [
        (["a", "a"], "labels[1]"),
        (["a", "b", "A"], "labels[2]"),
        (["a  b", "c", " a\nb "], "labels[2]"),
        (["É", "b", "é"], "labels[2]"),
        (["", " "], "labels[1]"),
    ],
)
def test_labels_that_are_the_same_to_the_model_are_refused(gateway: Gateway, labels: list[str], param: str) -> None:
    error = gateway.refused(CLASSIFY, 400, image=RED_URL, labels=labels)
    assert (error["code"], error["param"]) == ("duplicate_label", param)
    assert "labels[0]" in error["message"]
    assert repr(labels[int(param[-2])]) in error["message"]


class Repairing(AsyncClient):
    """A client of a model whose tokenizer repairs texts, as CLIP's does; and rounds a little otherwise each time."""

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        repaired = [html.unescape(unicodedata.normalize("NFKC", text)).replace("\x7f", "") for text in texts]
        found = await super().embed_texts(repaired, **options)
        noise = np.random.default_rng(0).uniform(-1e-7, 1e-7, found.features.shape).astype(np.float32)
        return replace(found, features=found.features + noise)


@pytest.mark.parametrize("other", ["salt &#38; pepper", "salt \uff06 pepper", "salt & pep\x7fper"])
def test_labels_that_the_models_tokenizer_makes_the_same_are_refused(fake: FakeServer, other: str) -> None:
    labels = ["garlic", "salt & pepper", "thyme", other]
    with gateway_over(fake, engine=Repairing(transport=fake.async_transport())) as gateway:
        for _ in range(2):  # from the model, and from the cache
            error = gateway.refused(CLASSIFY, 400, image=RED_URL, labels=labels)
            assert (error["code"], error["param"]) == ("duplicate_label", "labels[3]")
            assert "labels[1]" in error["message"]
        error = gateway.refused(ZERO_SHOT, 400, inputs=RED_URL, parameters={"candidate_labels": labels})
        assert (error["code"], error["param"]) == ("duplicate_label", "parameters.candidate_labels[3]")
        assert len(gateway.post(CLASSIFY, image=RED_URL, labels=labels[:3])["data"][0]["labels"]) == 3


def test_labels_that_are_both_cut_are_named_and_kept() -> None:
    """What would tell them apart is what the model did not read."""
    labels = ["word " * 90 + "a", "b", "word " * 90 + "c"]
    fake = FakeServer()
    with gateway_over(fake, engine=Cutting(transport=fake.async_transport())) as gateway:
        answer = gateway.post(CLASSIFY, image=RED_URL, labels=labels)
        assert answer["truncated"] == [0, 2]
        assert len(answer["data"][0]["labels"]) == 3


class Cutting(AsyncClient):
    """A client of a model that reads nothing behind the seventieth word."""

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        return await super().embed_texts([" ".join(text.split()[:70]) for text in texts], **options)


def test_case_counts_where_the_model_keeps_it() -> None:
    with gateway_over(FakeServer(manifest={"clean": "whitespace"})) as gateway:
        assert len(gateway.post(CLASSIFY, image=RED_URL, labels=["a", "A"])["data"][0]["labels"]) == 2
        assert gateway.refused(CLASSIFY, 400, image=RED_URL, labels=["a", "a "])["code"] == "duplicate_label"


def test_similarity_may_compare_equal_texts(gateway: Gateway) -> None:
    """A column is a text there, whatever it says."""
    answer = gateway.post(SIMILARITY, image=RED_URL, texts=["a", "a"])
    assert answer["probabilities"][0] == [pytest.approx(0.5), pytest.approx(0.5)]


def test_every_place_of_a_template_takes_the_label(gateway: Gateway) -> None:
    gateway.post(CLASSIFY, image=RED_URL, labels=["a", "b"], template="{} is {}{}")
    asked = [item for call in gateway.fake.requests("embed_text") for item in call.inputs[0].items()]
    assert asked == [b"a is aa", b"b is bb"]
    gateway.post(CLASSIFY, image=RED_URL, labels=["{}", "b"], template="a {}!")
    assert gateway.fake.requests("embed_text")[-1].inputs[0].items() == [b"a {}!", b"a b!"]


def test_a_partial_answer_keeps_the_good_images_labels(gateway: Gateway) -> None:
    answer = gateway.post(CLASSIFY, images=[data_url(b"no"), RED_URL], labels=["a", "b"], partial=True, min_cosine=-1)
    assert [entry["index"] for entry in answer["data"]] == [1]
    assert [error["index"] for error in answer["errors"]] == [0]


@pytest.fixture
def trained(fake: FakeServer) -> FakeServer:
    fake.store_label_set("birds", LABELS, trained=True, threshold=0.4)
    return fake


def test_a_trained_label_set_has_no_cosine(trained: FakeServer, gateway: Gateway) -> None:
    answer = gateway.post(CLASSIFY, image=RED_URL, label_set="birds")
    ClassifyResponse.model_validate(answer)
    labels = answer["data"][0]["labels"]
    assert [label["cosine"] for label in labels] == [None, None]
    assert sum(label["probability"] for label in labels) == pytest.approx(1)
    refused = gateway.refused(CLASSIFY, 400, image=RED_URL, label_set="birds", min_cosine=0.1)
    assert (refused["code"], refused["param"]) == ("invalid_value", "min_cosine")
    assert "threshold" in refused["message"]
    assert "0.4" in refused["message"]
    above = gateway.post(CLASSIFY, image=RED_URL, label_set="birds", threshold=0.5)
    assert len(above["data"][0]["labels"]) == 1


def test_what_is_stored_is_listed_with_its_kind(trained: FakeServer, gateway: Gateway) -> None:
    (model,) = gateway.http.get("/v1/models").json()["data"]
    ModelResponse.model_validate(model)
    listed = model["label_sets"]
    birds = {"labels": 2, "templates": 0, "kind": "trained", "threshold": 0.4, "activation": "softmax"}
    assert listed.pop("birds") == birds
    assert listed
    assert all(each["kind"] == "zero-shot" and each["threshold"] is None for each in listed.values())
