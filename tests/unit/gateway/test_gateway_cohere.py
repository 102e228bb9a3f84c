"""Cohere's embed, by both of its versions."""

import base64
from typing import Any

import numpy as np
import pytest

from tests.images import BLUE_URL, RED, RED_URL
from tests.unit.gateway.conftest import Gateway
from tritonclip.testing import features_of
from tritonclip_server.gateway.responses.encodings import quantized
from tritonclip_server.gateway.routes.cohere import CohereEmbedResponse

V1, V2 = "/v1/embed", "/v2/embed"


def expected(*items: bytes) -> Any:
    return np.stack([features_of(item, 16) for item in items])


def test_v1_answers_with_one_list_where_no_types_are_asked_for(gateway: Gateway) -> None:
    answer = gateway.post(V1, texts=["a", "b c"], model="fake", input_type="search_document", truncate="END")
    CohereEmbedResponse.model_validate(answer)
    assert answer["response_type"] == "embeddings_floats"
    assert answer["embeddings"] == pytest.approx(expected(b"a", b"b c"), abs=1e-6)
    assert answer["texts"] == ["a", "b c"]
    assert answer["meta"] == {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 7, "images": 0}}


@pytest.mark.parametrize("path", [V1, V2])
def test_vectors_come_in_every_type_that_is_asked_for(gateway: Gateway, path: str) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64", "float"]
    answer = gateway.post(path, texts=["a", "b"], embedding_types=types)
    CohereEmbedResponse.model_validate(answer)
    assert answer["response_type"] == "embeddings_by_type"
    vectors = answer["embeddings"]
    assert set(vectors) == set(types)
    assert vectors["float"] == pytest.approx(expected(b"a", b"b"), abs=1e-6)
    for dtype in ("int8", "uint8", "binary", "ubinary"):
        assert vectors[dtype] == quantized(expected(b"a", b"b"), dtype).tolist()
    decoded = [np.frombuffer(base64.b64decode(row), "<f4") for row in vectors["base64"]]
    assert np.stack(decoded) == pytest.approx(expected(b"a", b"b"), abs=1e-6)


def test_v2_answers_with_floats_where_no_types_are_asked_for(gateway: Gateway) -> None:
    answer = gateway.post(V2, texts="a")
    assert list(answer["embeddings"]) == ["float"]
    assert answer["meta"]["api_version"] == {"version": "2"}


def test_images_and_inputs_keep_their_order(gateway: Gateway) -> None:
    images = gateway.post(V1, images=[RED_URL, BLUE_URL], input_type="image")
    inputs = gateway.post(
        V2,
        inputs=[
            {"content": [{"type": "text", "text": "a"}]},
            {"content": [{"type": "image_url", "image_url": {"url": RED_URL}}, {"type": "text", "text": ""}]},
            {"content": "b"},
        ],
    )
    assert images["texts"] == []
    assert images["meta"]["billed_units"] == {"input_tokens": 0, "images": 2}
    assert images["embeddings"][0] == inputs["embeddings"]["float"][1]
    assert inputs["embeddings"]["float"] == pytest.approx(expected(b"a", RED, b"b"), abs=1e-6)


def test_cut_texts_are_named(gateway: Gateway) -> None:
    long = " ".join(["word"] * 100)
    assert gateway.post(V2, texts=["a", long])["truncated"] == [1]
    assert gateway.post(V1, texts=["a", long])["truncated"] == [1]


LONG = " ".join(["word"] * 100)
REFUSED = {
    "START": ({"texts": ["a"], "truncate": "START"}, "invalid_value", "truncate"),
    "a long text": ({"texts": ["a", LONG], "truncate": "NONE"}, "text_too_long", "texts[1]"),
    "no input": ({"model": "fake"}, "missing_field", "texts"),
    "two kinds": ({"texts": ["a"], "images": [RED_URL]}, "invalid_value", "images"),
    "other dimensions": ({"texts": ["a"], "output_dimension": 8}, "unsupported_dimensions", "output_dimension"),
    "fewer tokens": ({"texts": ["a"], "max_tokens": 10}, "invalid_value", "max_tokens"),
    "an unknown type": ({"texts": ["a"], "embedding_types": ["int4"]}, "invalid_value", "embedding_types[0]"),
    "an image for a text": ({"texts": [RED_URL]}, "not_a_text", "texts[0]"),
    "a video": ({"inputs": [{"content": [{"type": "video_url"}]}]}, "invalid_value", "inputs[0].content[0].type"),
    "two parts": (
        {"inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": RED_URL}]}]},
        "invalid_value",
        "inputs[0].content",
    ),
    "no part": ({"inputs": [{"content": []}]}, "invalid_value", "inputs[0].content"),
    "no content": ({"inputs": [{"words": "a"}]}, "invalid_value", "inputs[0]"),
    "nothing in the list": ({"inputs": []}, "missing_field", "inputs"),
    "a turn in a queue that there is not": ({"texts": ["a"], "priority": 3}, "invalid_value", "priority"),
}


@pytest.mark.parametrize(("document", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_what_it_does_not_do_is_refused(gateway: Gateway, document: dict[str, Any], code: str, param: str) -> None:
    error = gateway.refused(V2, 400, **document)
    assert (error["code"], error["param"]) == (code, param)


def test_what_changes_nothing_is_taken(gateway: Gateway) -> None:
    answer = gateway.post(V2, texts=["a"], max_tokens=512, output_dimension=16, priority=0, truncate="NONE")
    assert answer["embeddings"] == gateway.post(V2, texts=["a"])["embeddings"]
