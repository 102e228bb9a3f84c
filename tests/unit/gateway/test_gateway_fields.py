"""Fields of other APIs' programs: accepted where they ask for nothing, used where they mean something, else refused."""

import json
from typing import Any, cast

import pytest

from tests.images import RED, RED_URL
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.openapi import REQUESTS
from tritonclip_server.gateway.parsing.noop_fields import NOOP_FIELDS
from tritonclip_server.gateway.parsing.request_models import (
    ClassifyRequest,
    EmbeddingsRequest,
    RequestModel,
    RerankRequest,
    SimilarityRequest,
    ZeroShotParameters,
    ZeroShotRequest,
)
from tritonclip_server.gateway.parsing.validation import validate
from tritonclip_server.gateway.settings import Limits, Settings

EMBED, SIMILARITY, CLASSIFY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"
BARE: dict[str, dict[str, Any]] = {
    EMBED: {"input": "a"},
    SIMILARITY: {"image": RED_URL, "text": "a"},
    CLASSIFY: {"image": RED_URL, "labels": ["a", "b"]},
    RERANK: {"query": "a", "documents": ["a", "b"]},
    ZERO_SHOT: {"inputs": RED_URL, "parameters": {"candidate_labels": ["a", "b"]}},
}
MODELS: dict[str, type[RequestModel]] = {
    EMBED: EmbeddingsRequest,
    SIMILARITY: SimilarityRequest,
    CLASSIFY: ClassifyRequest,
    RERANK: RerankRequest,
    ZERO_SHOT: ZeroShotRequest,
}
LONG = "word " * 200


@pytest.mark.parametrize("path", BARE)
def test_what_asks_for_nothing_changes_nothing(gateway: Gateway, path: str) -> None:
    own = MODELS[path].model_fields
    expected = _without_id(gateway.post(path, **BARE[path]))
    for name, noop in NOOP_FIELDS.items():
        if name not in own:
            for value in (None, *noop.values):
                assert _without_id(gateway.post(path, **BARE[path], **{name: value})) == expected, (name, value)


def _without_id(answer: Any) -> Any:
    return {name: value for name, value in answer.items() if name != "id"} if isinstance(answer, dict) else answer


@pytest.mark.parametrize("name", NOOP_FIELDS)
def test_what_asks_for_something_else_is_refused_by_name(gateway: Gateway, name: str) -> None:
    for value in ("something", 7, ["something"], {"some": "thing"}, 1.5):
        error = gateway.refused(CLASSIFY, 400, **BARE[CLASSIFY], **{name: value})
        assert (error["code"], error["param"]) == ("invalid_value", name)
        assert error["message"] == f"{name}: {NOOP_FIELDS[name].reason}; leave this out"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", True),
        ("stream", 0),  # is no false
        ("priority", False),
        ("late_chunking", True),
        ("normalize", False),
        ("normalized", False),
        ("return_embeddings", True),
        ("prompt_name", "query"),
        ("truncation_direction", "Left"),
        ("endianness", "big"),
        ("chat_template_kwargs", {"a": 1}),
    ],
)
def test_values_that_would_be_another_answer(gateway: Gateway, name: str, value: Any) -> None:
    assert gateway.refused(EMBED, 400, input="a", **{name: value})["param"] == name


def test_a_form_says_it_in_strings(gateway: Gateway) -> None:
    files: list[Any] = [("image", ("a.png", RED))]
    fields = {"stream": "false", "priority": "0", "prompt_name": "", "mm_processor_kwargs": "{}", "normalize": "true"}
    answer = gateway.http.post(EMBED, files=files, data=fields)
    assert answer.json() == gateway.http.post(EMBED, files=files).json()
    refused = gateway.http.post(EMBED, files=files, data={"stream": "true"}).json()["error"]
    assert refused["param"] == "stream"


def test_hugging_faces_options(gateway: Gateway) -> None:
    options = {"use_cache": True, "wait_for_model": True}
    assert gateway.post(ZERO_SHOT, **BARE[ZERO_SHOT], options=options) == gateway.post(ZERO_SHOT, **BARE[ZERO_SHOT])
    assert gateway.refused(ZERO_SHOT, 400, **BARE[ZERO_SHOT], options={"wait": 1})["param"] == "options.wait"


@pytest.mark.parametrize(
    "asked",
    [
        {"truncate": False}, {"truncate": "NONE"}, {"truncation": False}, {"truncation": "do_not_truncate"},
        {"truncation": "disabled"}, {"truncation": False, "truncate": "NONE"},
    ],
)  # fmt: skip
def test_every_way_to_have_long_texts_refused(gateway: Gateway, asked: dict[str, Any]) -> None:
    error = gateway.refused(EMBED, 400, input=["a", LONG], **asked)
    assert (error["code"], error["param"]) == ("text_too_long", "input[1]")


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"truncate": None}, {"truncate": "END"}, {"truncation": True}, {"truncation": None},
        {"truncation": "longest_first"}, {"truncation": "auto"}, {"truncate_prompt_tokens": -1},
        {"truncate_prompt_tokens": None}, {"truncate_prompt_tokens": 77}, {"truncate_prompt_tokens": 8192},
        {"truncate_prompt_tokens": -1, "truncate": True}, {"truncation_side": "right"},
    ],
)  # fmt: skip
def test_every_way_to_have_them_cut(gateway: Gateway, asked: dict[str, Any]) -> None:
    assert gateway.post(EMBED, input=["a", LONG], **asked)["truncated"] == [1]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"truncation": True, "truncate": False}, "truncation"),
        ({"truncate_prompt_tokens": -1, "truncate": "NONE"}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 76}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncation": "LEFT"}, "truncation"),
        ({"truncate": 512}, "truncate"),
        ({"truncation": []}, "truncation"),
    ],
)
def test_what_cannot_be_done_about_long_texts(gateway: Gateway, asked: dict[str, Any], param: str) -> None:
    for path in (EMBED, SIMILARITY, CLASSIFY, RERANK):
        error = gateway.refused(path, 400, **BARE[path], **asked)
        assert (error["code"], error["param"]) == ("invalid_value", param)


def test_names_that_mean_the_same(gateway: Gateway) -> None:
    documents = {"query": "a", "documents": ["a", "b", "c"]}
    top_n, top_k = (gateway.post(RERANK, **documents, **{name: 2})["results"] for name in ("top_n", "top_k"))
    assert top_k == top_n
    assert gateway.refused(RERANK, 400, **documents, top_k=2, top_n=3)["param"] == "top_k"
    base64 = gateway.post(EMBED, input="a", encoding_format="base64")
    assert gateway.post(EMBED, input="a", embedding_types=["base64"]) == base64
    assert gateway.post(EMBED, input="a", output_dimension=16) == gateway.post(EMBED, input="a", dimensions=16)
    assert gateway.refused(EMBED, 400, input="a", output_dimension=8)["code"] == "unsupported_dimensions"


@pytest.mark.parametrize("name", ["max_tokens_per_doc", "max_tokens_per_query", "max_doc_length", "max_query_length"])
def test_limits_of_tokens_that_the_model_keeps_anyway(gateway: Gateway, name: str) -> None:
    for value in (None, 0, 77, 8192):
        gateway.post(RERANK, **BARE[RERANK], **{name: value})
    assert gateway.refused(RERANK, 400, **BARE[RERANK], **{name: 76})["param"] == name


@pytest.mark.parametrize(
    ("path", "name", "meant"),
    [
        (EMBED, "truncat", "truncate"),
        (EMBED, "Dimensions", "dimensions"),
        (EMBED, "inputs", "input"),
        (EMBED, "texts", "input"),
        (EMBED, "strem", "stream"),
        (EMBED, "trunctation", "truncation"),
        (RERANK, "passages", "documents"),
        (RERANK, "topn", "top_n"),
        (CLASSIFY, "candidate_labels", "labels"),
        (CLASSIFY, "hypothesis_template", "template"),
        (SIMILARITY, "imgs", "images"),
    ],
)
def test_a_field_that_is_not_there_names_the_one_that_may_be_meant(
    gateway: Gateway, path: str, name: str, meant: str
) -> None:
    error = gateway.refused(path, 400, **BARE[path], **{name: "a"})
    assert error["code"] == "unknown_field"
    assert error["message"] == f"{name}: no such option here; did you mean {meant}?"


def test_a_field_like_no_other(gateway: Gateway) -> None:
    error = gateway.refused(EMBED, 400, input="a", qwxyz=1)
    assert error["message"] == "qwxyz: no such option here: /openapi.json lists what there is"
    nested = {"inputs": RED_URL, "parameters": {"candidate_labels": ["a", "b"], "hypothesis_tmplate": "{}"}}
    error = gateway.refused(ZERO_SHOT, 400, **nested)
    assert error["message"].startswith("parameters.hypothesis_tmplate: no such option here; did you mean hyp")


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        (EMBED, {"partial": "yes"}, 'partial: expected true or false, got "yes"'),
        (EMBED, {"partial": 1}, "partial: expected true or false, got 1"),
        (EMBED, {"dimensions": "7"}, 'dimensions: expected a whole number, got "7"'),
        (EMBED, {"dimensions": 7.5}, "dimensions: expected a whole number, got 7.5"),
        (EMBED, {"dimensions": True}, "dimensions: expected a whole number, got true"),
        (EMBED, {"model": ["a"]}, "model: expected a string, got a list"),
        (EMBED, {"model": {"a": 1}}, "model: expected a string, got an object"),
        (EMBED, {"user": "x" * 2000}, "user: 2000 characters, more than the limit of 1024"),
        (EMBED, {"modality": "audio"}, 'modality: expected "text" or "image", got "audio"'),
        (EMBED, {"modality": "x" * 500}, f'modality: expected "text" or "image", got "{"x" * 40}…"'),
        (EMBED, {"truncate_prompt_tokens": -9}, "truncate_prompt_tokens: expected at least -1, got -9"),
        (CLASSIFY, {"top_k": 0}, "top_k: expected at least 1, got 0"),
        (CLASSIFY, {"threshold": 1.5}, "threshold: expected at most 1, got 1.5"),
        (CLASSIFY, {"threshold": "high"}, 'threshold: expected a number, got "high"'),
        (CLASSIFY, {"template": "a"}, "template: a template needs {} where the label goes"),
        (ZERO_SHOT, {"parameters": 3}, "parameters: expected an object, got 3"),
        (ZERO_SHOT, {"parameters": {}}, "parameters.candidate_labels: must be given"),
    ],
)
def test_what_is_wrong_with_a_value_in_our_words(gateway: Gateway, path: str, asked: Any, message: str) -> None:
    assert gateway.refused(path, 400, **(BARE[path] | asked))["message"] == message


VALUES = [
    None, True, 0, -5, 10**30, 2.5, float("inf"), float("nan"), "", "a", "1", "x" * 3000, "\ud800", [], ["a"], {},
    {"a": 1}, b"file",
]  # fmt: skip
PYDANTICS = ("Input should", "valid ", "Field required", "permitted", "should have", "Unable to", "cannot be used")


def refusal(model: type[RequestModel], document: dict[str, Any], *, strict: bool) -> ApiError | None:
    try:
        validate(model, document, strict=strict)
    except ApiError as error:
        return error
    return None


def example_of(model: type[RequestModel]) -> dict[str, Any]:
    """The request that the document shows."""
    (example,) = cast(dict[str, Any], model.model_config["json_schema_extra"])["examples"]
    return dict(example)


def test_no_words_of_pydantics_reach_anybody() -> None:
    """Every field of every request with values of every kind, as JSON and as a form."""
    refused = set()
    for model in REQUESTS:
        bare = example_of(model)
        documents = [bare | {name: value} for name in model.model_fields for value in VALUES]
        if model is ZeroShotRequest:
            names = ZeroShotParameters.model_fields
            documents += [bare | {"parameters": bare["parameters"] | {n: v}} for n in names for v in VALUES]
        for document in documents:
            for strict in (True, False):
                if (error := refusal(model, document, strict=strict)) is not None:
                    assert not any(words in error.message for words in PYDANTICS), error.message
                    assert error.message.startswith(f"{error.param}: ")
                    assert len(error.message) < 200
                    refused.add(error.reason.partition(", got")[0])
    assert {"expected true or false", "expected a whole number", "expected a number", "expected a string"} <= refused
    assert {"expected at least 1", "expected at most 1", "expected an object", 'expected "text" or "image"'} <= refused


def test_every_noop_field_is_in_the_document(gateway: Gateway) -> None:
    schemas = gateway.http.get("/openapi.json").json()["components"]["schemas"]
    for model in REQUESTS:
        assert NOOP_FIELDS.keys() <= schemas[model.__name__]["properties"].keys()
    assert schemas["SimilarityRequest"]["properties"]["stream"]["enum"] == [None, False]


def test_messages_begin_with_their_param_once(gateway: Gateway) -> None:
    error = gateway.refused(EMBED, 400, input=["a", {"image": "!"}, "b", {"image": "!!"}])
    assert error["message"].startswith("input[1].image: ")
    assert error["message"].endswith("(likewise input[3].image)")
    answer = gateway.post(EMBED, input=["a", {"image": "!"}], partial=True)
    assert answer["errors"][0]["message"].startswith("input[1].image: ")
    assert answer["errors"][0]["message"].count("input[1]") == 1
    header = gateway.http.post(EMBED, json={"input": "a"}, headers={"x-request-timeout": "soon"}).json()["error"]
    assert header["message"] == "x-request-timeout: must be a number of seconds"


def test_numbers_among_texts_are_no_token_arrays(gateway: Gateway) -> None:
    for value, param in (
        (["a", "b", 3], "input[2]"),
        ([1, "a"], "input[0]"),
        (["a", 2.5, "b"], "input[1]"),
        (["a", [1, 2]], "input[1]"),
        ([{"text": "a"}, 7], "input[1]"),
        (7, "input"),
    ):
        error = gateway.refused(EMBED, 400, input=value)
        assert (error["code"], error["param"]) == ("invalid_value", param)
        assert " is no text" in error["message"]


def test_what_is_too_much_says_what_to_do(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(limits=Limits(texts=5, images=2))) as gateway:
        error = gateway.refused(EMBED, 400, input=["a"] * 6)
        assert error["message"] == (
            "input: 6 texts, more than the limit of 5: send fewer at a time (chunk_size, batch_size), or start the "
            "gateway with --max-texts"
        )
        assert "3 images, more than the limit of 2" in gateway.refused(EMBED, 400, input=[RED_URL] * 3)["message"]
        assert gateway.post(EMBED, input=["a"] * 5 + [RED_URL, {"image": RED_URL}])["usage"]["num_images"] == 2
        mixed = ["a", RED_URL, {"image_url": {"url": RED_URL}}, {"content": [{"image": RED_URL}]}]
        assert gateway.refused(EMBED, 400, input=mixed)["code"] == "too_many_items"
        gateway.refused(EMBED, 400, input=["AAAA"] * 3, modality="image")
        assert json.dumps(gateway.post(EMBED, input=[RED_URL] * 3, modality="text")).count('"embedding"') >= 3


def test_the_largest_requests_are_whole() -> None:
    with gateway_over(FakeServer(width=64)) as gateway:
        answer = gateway.post(EMBED, input=[f"text {n}" for n in range(2048)])
        assert [entry["index"] for entry in answer["data"]] == list(range(2048))
        ranked = gateway.post(RERANK, query="q", documents=[f"text {n}" for n in range(1000)], return_documents=True)
        assert len(ranked["results"]) == 1000
        labelled = gateway.post(CLASSIFY, images=[RED_URL] * 64, labels=[f"a thing {n}" for n in range(1000)])
        assert [len(image["labels"]) for image in labelled["data"]] == [1000] * 64
        scores = gateway.post(SIMILARITY, images=[RED_URL] * 64, texts=[f"text {n}" for n in range(2048)])
        assert [len(row) for row in scores["cosine"]] == [2048] * 64
