"""What is a product of several parts of a request is bounded before it is there: prompts, scores, labels, echoes."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.images import BLUE_URL, RED_URL
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.content.items import TextItem
from tritonclip_server.gateway.content.labels import prompts_of
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.responses.json_responses import LABEL_BYTES, SCORE_BYTES
from tritonclip_server.gateway.settings import MIB, Limits, Settings

EMBED, SIMILARITY, CLASSIFY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"


@contextmanager
def at_most(mib: float) -> Iterator[None]:
    """What runs inside may not take more memory than this at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < mib * MIB


@pytest.mark.parametrize(
    ("labels", "template"),
    [
        (["a" * 9999, "b"], "{}" * 2_000_000),
        (["a" * 9000, *map(str, range(31))], "{}" * 4999),
        (["", "b"], "{}" * 2_000_000),
        (["a", "b"], "x" * 4_000_000 + "{}"),
    ],
)
def test_a_template_of_many_places_is_never_filled_in(gateway: Gateway, labels: list[str], template: str) -> None:
    """It took 12 gigabytes."""
    size = len(template) / MIB
    for path, document in (
        (CLASSIFY, {"image": RED_URL, "labels": labels, "template": template}),
        (ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": labels, "hypothesis_template": template}}),
    ):
        with at_most(20 * size + 8):  # the request itself is there several times, most of them here in the client
            assert gateway.refused(path, 400, **document)["code"] == "text_too_long"
    assert gateway.fake.requests("embed_text") == []


@pytest.mark.parametrize(
    ("template", "label", "fits"),
    [
        ("{}", "a" * 10, True), ("{}", "a" * 11, False), ("{}{}", "a" * 5, True), ("{}{}", "a" * 6, False),
        ("12345678{}", "ab", True), ("12345678{}", "abc", False), ("{}" * 5, "", True), ("{}" * 6, "", False),
        ("{}" * 5, "ab", True), ("{}" * 5, "abc", False),
    ],
)  # fmt: skip
def test_the_arithmetic_is_right(template: str, label: str, fits: bool) -> None:
    limits = Limits(text_characters=10)
    if fits:
        (prompt,) = prompts_of([TextItem(label, "labels[0]")], template, "template", limits)
        assert prompt.text == template.replace("{}", label)
        assert len(prompt.text) <= 10
    else:
        with pytest.raises(ApiError, match="limit of 10"):
            prompts_of([TextItem(label, "labels[0]")], template, "template", limits)


def limited(size: int, **limits: Any) -> Settings:
    return Settings(limits=Limits(answer_bytes=size, **limits))


def test_images_by_texts(fake: FakeServer) -> None:
    texts = [str(n) for n in range(10)]
    size = 2 * 10 * 3 * SCORE_BYTES
    with gateway_over(fake, limited(size)) as gateway:
        answer = gateway.http.post(SIMILARITY, json={"images": [RED_URL, BLUE_URL], "texts": texts})
        assert answer.status_code == 200
        assert len(answer.content) < size + 300  # the estimate holds
        error = gateway.refused(SIMILARITY, 400, images=[RED_URL] * 3, texts=texts)
    assert error["code"] == "answer_too_large"
    assert "3 images by 10 texts" in error["message"]
    assert str(size) in error["message"]
    assert len(fake.requests("embed_image")) == 1  # the second one was refused before


@pytest.mark.parametrize(
    "label",
    ["a", "a" * 500, "日本" * 200, "\x01" * 300, '"\\' * 200, "é" * 300],
    ids=["short", "long", "of many bytes", "of escapes", "of quotes", "of accents"],
)
def test_images_by_labels(fake: FakeServer, label: str) -> None:
    """The labels' texts come back with every image, in JSON's spelling: 64 KiB of request would be megabytes."""
    labels = [f"{n}{label}" for n in range(4)]
    with gateway_over(fake, limited(10_000)) as gateway:
        sizes = {}
        for images in range(1, 40):
            answer = gateway.http.post(
                CLASSIFY, json={"images": [RED_URL] * images, "labels": labels, "template": "{}"}
            )
            if answer.status_code != 200:
                break
            sizes[images] = len(answer.content)
        assert answer.json()["error"]["code"] == "answer_too_large"
        assert sizes
        assert max(sizes.values()) < 10_000 + 300
        fewer = {"images": [RED_URL] * images, "labels": labels, "template": "{}", "top_k": 1}
        assert gateway.http.post(CLASSIFY, json=fewer).status_code == 200  # the remedy that the message names


def test_images_by_stored_labels() -> None:
    names = [f"label {n}" for n in range(100)]
    fake = FakeServer(label_sets={"hundred": names})
    with gateway_over(fake, limited(100 * (LABEL_BYTES + 11))) as gateway:
        assert len(gateway.post(CLASSIFY, image=RED_URL, label_set="hundred")["data"][0]["labels"]) == 100
        error = gateway.refused(CLASSIFY, 400, images=[RED_URL, BLUE_URL], label_set="hundred")
        assert error["code"] == "answer_too_large"
        assert "top_k" in error["message"]
        two = gateway.post(CLASSIFY, images=[RED_URL, BLUE_URL], label_set="hundred", top_k=50)
        assert [len(entry["labels"]) for entry in two["data"]] == [50, 50]
    assert len(fake.requests("classify_hundred")) == 2


def test_many_stored_labels_are_asked_for_in_parts() -> None:
    """So that no answer of the model server keeps the event loop for long; together they are one answer."""
    fake = FakeServer(label_sets={"thousand": [f"label {n}" for n in range(1000)]})
    with gateway_over(fake) as gateway:
        images = [RED_URL, BLUE_URL] * 5
        answer = gateway.post(CLASSIFY, images=[*images, "!"], label_set="thousand", partial=True)
        assert [entry["index"] for entry in answer["data"]] == list(range(10))
        assert all(len(entry["labels"]) == 1000 for entry in answer["data"])
        assert answer["data"][0]["labels"] == answer["data"][2]["labels"] != answer["data"][1]["labels"]
        assert [error["index"] for error in answer["errors"]] == [10]
    calls = fake.requests("classify_thousand")
    assert [call.inputs[0].shape[0] for call in calls] == [4, 4, 2]


def test_documents_come_back_no_larger_than_they_came(gateway: Gateway) -> None:
    documents = ["\x01" * 1000, "日" * 1000, {"text": "b" * 1000}, {"image": RED_URL}]
    request = {"query": "q", "documents": documents, "return_documents": True}
    answer = gateway.http.post(RERANK, json=request)
    sent = len(answer.request.content)
    assert len(answer.content) < sent + 500 * len(documents)


def test_one_more_item_than_there_may_be_is_refused_before_any_is_looked_at(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(limits=Limits(images=4, texts=4))) as gateway:
        for path, document, field in (
            (EMBED, {"input": [{"neither": 1}] * 5}, "input"),
            (SIMILARITY, {"images": [1] * 5, "text": "a"}, "images"),
            (SIMILARITY, {"image": RED_URL, "texts": [1] * 5}, "texts"),
            (CLASSIFY, {"image": RED_URL, "labels": [1] * 5}, "labels"),
            (RERANK, {"query": "a", "documents": [1] * 5}, "documents"),
            (
                ZERO_SHOT,
                {"inputs": RED_URL, "parameters": {"candidate_labels": "a," * 5}},
                "parameters.candidate_labels",
            ),
        ):
            error = gateway.refused(path, 400, **document)
            assert (error["code"], error["param"]) == ("too_many_items", field)


def test_long_answers_are_whole(fake: FakeServer) -> None:
    """Those that are written in a thread, list by list, are what others are."""
    wide = FakeServer(width=1024)
    with gateway_over(wide) as gateway:
        texts = [str(n) for n in range(64)]
        rows = np.array([entry["embedding"] for entry in gateway.post(EMBED, input=texts)["data"]], np.float32)
        few = gateway.post(EMBED, input=texts[60:])["data"]
        np.testing.assert_array_equal(rows[60:], np.array([entry["embedding"] for entry in few], np.float32))
        assert [entry["index"] for entry in gateway.post(EMBED, input=texts)["data"]] == list(range(64))
