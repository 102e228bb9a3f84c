"""Items in the shapes of other APIs, and documents with fields of their caller's own."""

from typing import Any

import pytest

from tests.images import BLUE_URL, RED, RED_URL, base64_of
from tests.unit.gateway.conftest import Gateway
from tritonclip_server.gateway.content.parts import means_image

EMBED, SIMILARITY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/rerank"
RED_BASE64 = base64_of(RED)

IMAGES: list[Any] = [
    {"image": RED_URL},
    {"image": RED_BASE64},
    {"image": {"url": RED_URL}},
    {"url": RED_URL},
    {"bytes": RED_BASE64},
    {"b64_json": RED_BASE64},
    {"type": "image_url", "image_url": RED_URL},
    {"type": "image_url", "image_url": {"url": RED_URL}},
    {"type": "image_url", "image_url": {"url": RED_URL, "detail": "auto"}},
    {"type": "image_url", "image_url": {"url": RED_URL, "detail": None}},
    {"type": "input_image", "image_url": RED_URL, "detail": "high"},
    {"type": "input_image", "image_url": RED_URL, "file_id": None},
    {"type": "image", "image": RED_URL},
    {"type": "image_base64", "image_base64": RED_URL},
    {"image": RED_URL, "text": ""},
    {"image": RED_URL, "text": None},
    {"image_url": RED_URL, "text": " \n"},
    {"content": [{"type": "image_url", "image_url": {"url": RED_URL}}]},
    {"content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": RED_URL}}]},
]
TEXTS: list[Any] = [
    {"text": "a"},
    {"type": "text", "text": "a"},
    {"type": "input_text", "text": "a"},
    {"text": "a", "image": None},
    {"content": "a"},
    {"content": [{"type": "text", "text": "a"}]},
    {"content": ["a", ""]},
]
BAD: list[tuple[Any, str]] = [
    ({}, "input[1]"),
    ({"x": 1}, "input[1]"),
    ({"text": "a", "x": 1}, "input[1]"),
    ({"text": "a", "image": RED_URL}, "input[1]"),
    ({"text": "a", "content": "b"}, "input[1]"),
    ({"image": RED_URL, "url": BLUE_URL}, "input[1]"),
    ({"text": None}, "input[1].text"),
    ({"type": "input_audio", "input_audio": {}}, "input[1].type"),
    ({"type": 3, "text": "a"}, "input[1].type"),
    ({"type": "text", "image": RED_URL}, "input[1].type"),
    ({"type": "image_url", "text": "a"}, "input[1].type"),
    ({"image": {"text": "a"}}, "input[1].image.text"),
    ({"image": {"url": {"url": RED_URL}}}, "input[1].image.url"),
    ({"image": {"url": 3}}, "input[1].image.url"),
    ({"image": {}}, "input[1].image"),
    ({"content": []}, "input[1].content"),
    ({"content": ["a", "b"]}, "input[1].content"),
    ({"content": [{"text": "a"}, {"image": RED_URL}]}, "input[1].content"),
    ({"content": [{"content": [{"content": "a"}]}]}, "input[1].content[0]"),
    ({"content": 3}, "input[1].content"),
]


@pytest.mark.parametrize("item", IMAGES)
def test_every_shape_of_an_image(gateway: Gateway, item: Any) -> None:
    assert means_image(item)
    expected = gateway.post(EMBED, input=["x", RED_URL])
    assert gateway.post(EMBED, input=["x", item]) == expected
    ranked = gateway.post(RERANK, query=item, documents=["x", item])
    assert [result["relevance_score"] for result in ranked["results"]] == [
        result["relevance_score"] for result in gateway.post(RERANK, query=RED_URL, documents=["x", RED_URL])["results"]
    ]
    if "content" not in item:
        compared = gateway.post(SIMILARITY, image=item, text="a")
        assert compared == gateway.post(SIMILARITY, image=RED_URL, text="a")


@pytest.mark.parametrize("item", TEXTS)
def test_every_shape_of_a_text(gateway: Gateway, item: Any) -> None:
    assert not means_image(item)
    assert gateway.post(EMBED, input=["x", item]) == gateway.post(EMBED, input=["x", "a"])


@pytest.mark.parametrize(("item", "param"), BAD)
def test_shapes_of_nothing(gateway: Gateway, item: Any, param: str) -> None:
    error = gateway.refused(EMBED, 400, input=["a", item])
    assert error["param"] == param
    assert error["code"] in ("invalid_value", "missing_field")


def test_objects_of_any_depth_are_refused_not_followed(gateway: Gateway) -> None:
    for field in ("image", "content", "text"):
        deep: Any = "a"
        for _ in range(400):
            deep = {field: deep if field != "content" else [deep]}
        for document in ({"input": [deep]}, {"messages": [{"content": [deep]}]}):
            assert gateway.refused(EMBED, 400, **document)["code"] == "invalid_value"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": RED_URL, "detail": "low"}}, {"type": "text", "text": ""}],
        [{"type": "text", "text": "  "}, {"type": "image_url", "image_url": {"url": RED_URL}}],
        [{"type": "input_image", "image_url": RED_URL}],
        [{"type": "image_url", "image_url": {"url": RED_URL}}],
    ],
)
def test_a_message_of_an_image_and_no_words(gateway: Gateway, content: Any) -> None:
    answer = gateway.post(EMBED, messages=[{"role": "user", "content": content}], add_special_tokens=False)
    assert answer == gateway.post(EMBED, input=RED_URL)


def test_a_message_of_nothing_but_blanks_is_a_text(gateway: Gateway) -> None:
    answer = gateway.post(EMBED, messages=[{"role": "user", "content": [{"type": "text", "text": ""}]}])
    assert answer == gateway.post(EMBED, input={"text": ""})


def test_documents_with_fields_of_their_own_come_back_whole(gateway: Gateway) -> None:
    documents = [
        {"text": "a red triangle", "id": "7", "url": "https://example.com/7", "tags": ["x", {"y": 1}]},
        {"image": BLUE_URL, "id": 8, "type": "photo"},
        {"id": 9, "title": "third", "text": "a blue star", "bytes": 12, "image": None},
        {"url": RED_URL, "id": 10},
    ]
    answer = gateway.post(RERANK, query="a red shape", documents=documents, return_documents=True)
    assert {result["index"]: result["document"] for result in answer["results"]} == dict(enumerate(documents))
    bare = ["a red triangle", BLUE_URL, "a blue star", RED_URL]
    scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
    for result in gateway.post(RERANK, query="a red shape", documents=bare)["results"]:
        assert scores[result["index"]] == result["relevance_score"]


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"id": 7}, "documents[0]"),
        ({"id": 7, "title": "no text"}, "documents[0]"),
        ({"text": "a", "image": RED_URL, "id": 7}, "documents[0]"),
        ({"text": 3, "id": 7}, "documents[0].text"),
    ],
)
def test_documents_of_nothing(gateway: Gateway, document: Any, param: str) -> None:
    assert gateway.refused(RERANK, 400, query="a", documents=[document])["param"] == param


@pytest.mark.parametrize("own", ['"\\ud800"', "1" * 400, "[" * 300 + "]" * 300])
def test_what_cannot_come_back_is_refused(gateway: Gateway, own: str) -> None:
    surrogate = ', "x": "\\ud800"' if own.startswith("1") else ""
    body = f'{{"query": "a", "documents": ["b", {{"text": "a", "own": {own}{surrogate}}}], "return_documents": true}}'
    answer = gateway.http.post(RERANK, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "documents[1]"
