"""`/v1/embeddings`: what counts as a text and what as an image, order, formats, usage, partial answers."""

import base64
from typing import Any, Literal, cast

import numpy as np
import pytest
from openai import BadRequestError, OpenAI

from tests.images import BLUE, BLUE_URL, RED, RED_URL, base64_of, data_url
from tests.unit.gateway.conftest import Gateway
from tritonclip.testing import features_of
from tritonclip_server.gateway.responses.encodings import Dtype, quantized
from tritonclip_server.gateway.responses.response_models import EmbeddingsResponse

PATH = "/v1/embeddings"


def vectors(answer: dict[str, Any]) -> list[list[float]]:
    EmbeddingsResponse.model_validate(answer)
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return [entry["embedding"] for entry in answer["data"]]


def expected(*items: bytes) -> Any:
    return pytest.approx(np.stack([features_of(item, 16) for item in items]), abs=1e-6)


ONE_ITEM = {
    "a string": ({"input": "a cat"}, b"a cat"),
    "a list": ({"input": ["a cat"]}, b"a cat"),
    "a text object": ({"input": [{"text": "a cat"}]}, b"a cat"),
    "a data URL": ({"input": RED_URL}, RED),
    "base64 in an image object": ({"input": [{"image": base64_of(RED)}]}, RED),
    "a data URL in an image object": ({"input": [{"image": RED_URL}]}, RED),
    "an OpenAI part": ({"input": [{"type": "image_url", "image_url": {"url": RED_URL}}]}, RED),
    "modality image": ({"input": base64_of(RED), "modality": "image"}, RED),
    "modality text": ({"input": RED_URL, "modality": "text"}, RED_URL.encode()),
    "base64 with line breaks": ({"input": [{"image": base64.encodebytes(RED).decode()}]}, RED),
    "a web address as a text": (
        {"input": "https://example.com/cat.png", "modality": "text"},
        b"https://example.com/cat.png",
    ),
    "a web address in a text object": (
        {"input": {"text": "https://example.com/cat.png"}},
        b"https://example.com/cat.png",
    ),
    "a message": ({"messages": [{"role": "user", "content": "a cat"}]}, b"a cat"),
    "a message of a text part": ({"messages": [{"content": [{"type": "text", "text": "a cat"}]}]}, b"a cat"),
    "a message of an image part": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": RED_URL}}]}]},
        RED,
    ),
    "an empty text": ({"input": ""}, b""),
    "NVIDIA's options": ({"input": "a cat", "input_type": "query", "truncate": "END"}, b"a cat"),
    "Jina's options": ({"input": [{"text": "a cat"}], "normalized": True, "task": "retrieval.query"}, b"a cat"),
}


@pytest.mark.parametrize(("document", "item"), ONE_ITEM.values(), ids=ONE_ITEM)
def test_one_item_in_every_shape(gateway: Gateway, document: dict[str, Any], item: bytes) -> None:
    assert vectors(gateway.post(PATH, **document)) == expected(item)


def test_mixed_items_keep_their_order(gateway: Gateway) -> None:
    answer = gateway.post(PATH, input=["a", RED_URL, "b", {"image": BLUE_URL}, "a", {"text": "c"}])
    assert vectors(answer) == expected(b"a", RED, b"b", BLUE, b"a", b"c")


@pytest.mark.parametrize("option", ["encoding_format", "embedding_type"])
def test_base64_is_little_endian_float32(gateway: Gateway, option: str) -> None:
    (vector,) = vectors(gateway.post(PATH, input="a", **{option: "base64"}))
    assert isinstance(vector, str)
    assert np.frombuffer(base64.b64decode(vector), "<f4")[None] == expected(b"a")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("option", ["encoding_format", "embedding_type", "output_dtype"])
def test_vectors_as_integers(gateway: Gateway, option: str, dtype: Dtype) -> None:
    answer = gateway.post(PATH, input=["a", data_url(b"no"), RED_URL], partial=True, **{option: dtype})
    EmbeddingsResponse.model_validate(answer)
    features = np.stack([features_of(b"a", 16), features_of(RED, 16)])
    assert [entry["embedding"] for entry in answer["data"]] == quantized(features, dtype).tolist()
    assert [entry["index"] for entry in answer["data"]] == [0, 2]


def test_voyages_client_asks_for_base64_of_a_dtype(gateway: Gateway) -> None:
    answer = gateway.post(PATH, input="a", encoding_format="base64", output_dtype="binary", output_dimension=16)
    bits = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), np.int8)
    assert bits.tolist() == quantized(features_of(b"a", 16)[None], "binary")[0].tolist()


def test_a_list_of_one_type_is_that_type(gateway: Gateway) -> None:
    assert len(vectors(gateway.post(PATH, input="a", embedding_type=["ubinary"]))[0]) == 2


def test_openais_sdk(gateway: Gateway) -> None:
    """It decodes base64 that it asked for by itself as float32, which other bytes must not reach in silence."""
    sdk = OpenAI(base_url="http://testserver/v1", api_key="none", http_client=gateway.http)
    plain = sdk.embeddings.create(model="fake", input="a")
    assert np.array([plain.data[0].embedding]) == expected(b"a")
    asked = sdk.embeddings.create(model="fake", input="a", encoding_format=cast(Literal["float"], "int8"))
    assert asked.data[0].embedding == quantized(features_of(b"a", 16)[None], "int8")[0].tolist()
    numbers = sdk.embeddings.create(
        model="fake", input="a", encoding_format="float", extra_body={"output_dtype": "int8"}
    )
    assert numbers.data[0].embedding == asked.data[0].embedding
    with pytest.raises(BadRequestError, match="float32: ask for int8 with encoding_format"):
        sdk.embeddings.create(model="fake", input="a", extra_body={"output_dtype": "int8"})


def test_usage_sums_tokens_and_counts_images(gateway: Gateway) -> None:
    answer = gateway.post(PATH, input=["one two", RED_URL, "three", "one two"])
    assert answer["usage"] == {"prompt_tokens": 4 + 3 + 4, "total_tokens": 11, "num_images": 1}
    assert gateway.post(PATH, input=["one two"])["usage"]["prompt_tokens"] == 4  # from the cache


@pytest.mark.parametrize("option", ["dimensions", "output_dimension"])
def test_dimensions_are_the_models_own(gateway: Gateway, option: str) -> None:
    assert len(vectors(gateway.post(PATH, input="a", **{option: 16}))[0]) == 16
    assert len(vectors(gateway.post(PATH, input="a", **{option: 0}))[0]) == 16  # infinity's client says so unasked
    for count in (8, 32, -1):
        error = gateway.refused(PATH, 400, input="a", **{option: count})
        assert (error["code"], error["param"]) == ("unsupported_dimensions", option)
        assert "have 16 dimensions" in error["message"]
        assert "Matryoshka" in error["message"]


def test_partial_answers_for_the_good_and_names_the_bad(gateway: Gateway) -> None:
    answer = gateway.post(PATH, input=["a", data_url(b"no"), BLUE_URL, {"image": "!"}], partial=True)
    EmbeddingsResponse.model_validate(answer)
    assert [entry["index"] for entry in answer["data"]] == [0, 2]
    assert [entry["embedding"] for entry in answer["data"]] == expected(b"a", BLUE)
    errors = [(error["index"], error["param"], error["code"]) for error in answer["errors"]]
    assert errors == [(1, "input[1]", "invalid_image"), (3, "input[3].image", "invalid_base64")]


def test_partial_with_nothing_good_is_an_error(gateway: Gateway) -> None:
    error = gateway.refused(PATH, 400, input=[data_url(b"no"), data_url(b"nor this")], partial=True)
    assert error["param"] == "input[0]"


def test_a_form_takes_files_and_texts_in_their_order(gateway: Gateway) -> None:
    files: list[Any] = [
        ("text", (None, "a")),
        ("image", ("red.png", RED)),
        ("input", ("blue.png", BLUE)),
        ("input", (None, "b")),
        ("image", (None, RED_URL)),
        ("encoding_format", (None, "float")),
    ]
    answer = gateway.http.post(PATH, files=files)
    assert vectors(answer.json()) == expected(b"a", RED, BLUE, b"b", RED)


def test_the_model_may_be_named(gateway: Gateway) -> None:
    assert gateway.post(PATH, input="a", model="fake")["model"] == "fake"
