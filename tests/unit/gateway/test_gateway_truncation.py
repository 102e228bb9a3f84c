"""Texts longer than the model reads: refused where the caller says so, and else cut and named, at every endpoint."""

from typing import Any

import pytest

from tests.images import RED, RED_URL, data_url
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip.testing import CONTEXT_LENGTH, FakeServer
from tritonclip_server.gateway.responses.response_models import (
    ClassifyResponse,
    EmbeddingsResponse,
    RerankResponse,
    SimilarityResponse,
)

EMBED, SIMILARITY, CLASSIFY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"
FITS = "word " * (CONTEXT_LENGTH - 2)
LONG, LONGER = "word " * (CONTEXT_LENGTH - 1), "word " * 88  # with start and end: 78 and 90 tokens
REFUSE = [False, "NONE", "none", "false"]
CUT: list[Any] = [
    {},
    {"truncate": None},
    {"truncate": True},
    {"truncate": "END"},
    {"truncate": "right"},
    {"truncate": "true"},
]


@pytest.mark.parametrize("truncate", REFUSE)
def test_who_will_not_have_texts_cut_gets_them_refused(gateway: Gateway, truncate: Any) -> None:
    error = gateway.refused(EMBED, 400, input=[FITS, LONGER, "a"], truncate=truncate)
    assert (error["code"], error["param"]) == ("text_too_long", "input[1]")
    assert error["message"].startswith("input[1]: 90 tokens, more than the 77 that the model reads")
    answer = gateway.post(EMBED, input=[FITS, RED_URL], truncate=truncate)
    assert "truncated" not in answer
    assert answer["usage"]["prompt_tokens"] == CONTEXT_LENGTH


def test_every_text_that_is_too_long_is_named(gateway: Gateway) -> None:
    error = gateway.refused(EMBED, 400, input=[LONG, "a", LONGER, data_url(b"no"), LONG], truncate=False)
    assert error["param"] == "input[0]"
    assert "78 tokens" in error["message"]
    assert "likewise input[2], input[4]" in error["message"]


def test_in_a_partial_answer_they_are_errors_of_their_own(gateway: Gateway) -> None:
    answer = gateway.post(EMBED, input=[FITS, LONGER, RED_URL, LONG], truncate="NONE", partial=True)
    assert [entry["index"] for entry in answer["data"]] == [0, 2]
    found = [(error["index"], error["code"], error["param"], error["message"][9:19]) for error in answer["errors"]]
    assert found == [(1, "text_too_long", "input[1]", " 90 tokens"), (3, "text_too_long", "input[3]", " 78 tokens")]
    assert answer["usage"] == {"prompt_tokens": CONTEXT_LENGTH, "total_tokens": CONTEXT_LENGTH, "num_images": 1}
    assert "truncated" not in answer


@pytest.mark.parametrize("option", CUT)
def test_else_they_are_cut_and_listed(gateway: Gateway, option: dict[str, Any]) -> None:
    for _ in range(2):  # from the model, and from the cache
        answer = gateway.post(EMBED, input=["a", LONG, RED_URL, FITS, {"text": LONGER}], **option)
        EmbeddingsResponse.model_validate(answer)
        assert answer["truncated"] == [1, 4]
        assert answer["usage"]["prompt_tokens"] == 3 + 3 * CONTEXT_LENGTH  # what the model read of them
    assert gateway.refused(EMBED, 400, input=[LONGER], truncate=False)["code"] == "text_too_long"  # cached or not
    assert "truncated" not in gateway.post(EMBED, input=["a", FITS], **option)


@pytest.mark.parametrize("truncate", ["START", "left", "middle", "", 1, 0, ["NONE"]])
def test_what_cannot_be_done_is_refused(gateway: Gateway, truncate: Any) -> None:
    for path, document in (
        (EMBED, {"input": "a"}),
        (SIMILARITY, {"image": RED_URL, "text": "a"}),
        (CLASSIFY, {"image": RED_URL, "labels": ["a", "b"]}),
        (RERANK, {"query": "a", "documents": ["b"]}),
    ):
        error = gateway.refused(path, 400, truncate=truncate, **document)
        assert (error["code"], error["param"]) == ("invalid_value", "truncate")


def test_similarity(gateway: Gateway) -> None:
    answer = gateway.post(SIMILARITY, images=[RED_URL, RED_URL], texts=["a", LONG, "b", LONGER])
    SimilarityResponse.model_validate(answer)
    assert answer["truncated"] == [1, 3]
    for partial in (False, True):
        error = gateway.refused(SIMILARITY, 400, image=RED_URL, texts=["a", LONG], truncate=False, partial=partial)
        assert (error["code"], error["param"]) == ("text_too_long", "texts[1]")


def test_classify(gateway: Gateway) -> None:
    answer = gateway.post(CLASSIFY, image=RED_URL, labels=["a", LONG])
    ClassifyResponse.model_validate(answer)
    assert answer["truncated"] == [1]
    # The template's words count: "a photo of a" is four more.
    nearly = "word " * (CONTEXT_LENGTH - 2 - 3)
    assert gateway.post(CLASSIFY, image=RED_URL, labels=["a", nearly])["truncated"] == [1]
    assert "truncated" not in gateway.post(CLASSIFY, image=RED_URL, labels=["a", nearly], template="{}")
    error = gateway.refused(CLASSIFY, 400, image=RED_URL, labels=["a", nearly], truncate="NONE")
    assert (error["code"], error["param"]) == ("text_too_long", "labels[1]")
    assert "78 tokens" in error["message"]


def test_hugging_faces_answer_has_no_place_but_a_header(gateway: Gateway) -> None:
    parameters = {"candidate_labels": ["a", LONG, "b", LONGER]}
    answer = gateway.http.post(ZERO_SHOT, json={"inputs": RED_URL, "parameters": parameters})
    assert answer.headers["x-truncated"] == "1,3"
    assert len(answer.json()) == 4
    parameters = {"candidate_labels": ["a", "b"]}
    assert "x-truncated" not in gateway.http.post(ZERO_SHOT, json={"inputs": RED_URL, "parameters": parameters}).headers


def test_rerank(gateway: Gateway) -> None:
    answer = gateway.post(RERANK, query="q", documents=["a", LONG, {"image": RED_URL}, {"text": LONGER}])
    RerankResponse.model_validate(answer)
    assert answer["truncated"] == [1, 3]
    assert "query_truncated" not in answer
    answer = gateway.post(RERANK, query=LONG, documents=["a"])
    RerankResponse.model_validate(answer)
    assert answer["query_truncated"] is True
    assert "truncated" not in answer
    error = gateway.refused(RERANK, 400, query=LONG, documents=["a"], truncate=False, partial=True)
    assert (error["code"], error["param"]) == ("text_too_long", "query")
    answer = gateway.post(RERANK, query="q", documents=["a", LONG], truncate=False, partial=True)
    assert [result["index"] for result in answer["results"]] == [0]
    assert [error["param"] for error in answer["errors"]] == ["documents[1]"]


@pytest.mark.parametrize(
    ("option", "taken"),
    [
        ({"max_tokens_per_doc": 4096}, True),
        ({"max_tokens_per_doc": CONTEXT_LENGTH}, True),
        ({"max_tokens_per_doc": CONTEXT_LENGTH - 1}, False),
        ({"max_chunks_per_doc": 1}, True),
        ({"max_chunks_per_doc": 10}, True),
        ({"max_chunks_per_doc": 0}, False),
    ],
)
def test_coheres_limits_of_a_document(gateway: Gateway, option: dict[str, int], taken: bool) -> None:
    """What asks for nothing else than what is done anyway is taken."""
    status = gateway.http.post(RERANK, json={"query": "q", "documents": ["a"]} | option).status_code
    assert status == (200 if taken else 400)


def test_a_model_that_does_not_say_what_it_reads() -> None:
    with gateway_over(FakeServer(manifest={"context_length": None})) as gateway:
        answer = gateway.post(EMBED, input=[LONGER])
        assert answer["usage"]["prompt_tokens"] == 90
        assert "truncated" not in answer
        assert gateway.refused(EMBED, 400, input=["a"], truncate=False)["param"] == "truncate"
        assert gateway.post(RERANK, query="a", documents=["b"], max_tokens_per_doc=5)["results"]


def test_truncate_in_a_form(gateway: Gateway) -> None:
    files: list[Any] = [("image", ("a.png", RED)), ("text", (None, LONG))]
    answer = gateway.http.post(EMBED, files=[*files, ("truncate", (None, "true"))]).json()
    assert answer["truncated"] == [1]
    refused = gateway.http.post(EMBED, files=[*files, ("truncate", (None, "false"))])
    assert refused.json()["error"]["code"] == "text_too_long"
