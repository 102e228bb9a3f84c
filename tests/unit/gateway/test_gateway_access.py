"""What all doors of other APIs have in common: keys, limits, metrics, and errors where their clients look for them."""

from pathlib import Path
from typing import Any

import pytest

from tests.images import RED_URL, data_url
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip import AsyncClient, ServerError
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.settings import Limits, Settings

TWO_TEXTS = ["a", "b"]
IMAGE_CONTENT = {"content": [{"type": "image_url", "image_url": {"url": RED_URL}}]}
BAD = data_url(b"no image at all")
BAD_CONTENT = {"content": [{"type": "image_url", "image_url": BAD}]}

# By path: a request that is right, one of an image and texts, one with an item that is bad, and where that is.
DOORS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "/embeddings": ({"input": TWO_TEXTS}, {"input": RED_URL}, {"input": ["a", BAD]}, "input[1]"),
    "/rerank": (
        {"query": "a", "documents": TWO_TEXTS},
        {"query": "a", "documents": [RED_URL]},
        {"query": "a", "documents": ["a", BAD]},
        "documents[1]",
    ),
    "/v1/embed": ({"texts": TWO_TEXTS}, {"images": [RED_URL]}, {"images": [RED_URL, BAD]}, "images[1]"),
    "/v2/embed": (
        {"texts": TWO_TEXTS},
        {"inputs": [IMAGE_CONTENT]},
        {"inputs": [IMAGE_CONTENT, BAD_CONTENT]},
        "inputs[1].content[0].image_url",
    ),
    "/v1/multimodalembeddings": (
        {"inputs": [{"content": [{"type": "text", "text": text}]} for text in TWO_TEXTS]},
        {"inputs": [{"content": [{"type": "image_base64", "image_base64": RED_URL}]}]},
        {"inputs": [{"content": [{"type": "image_base64", "image_base64": BAD}]}]},
        "inputs[0].content[0].image_base64",
    ),
    "/": ({"inputs": TWO_TEXTS}, {"inputs": RED_URL}, {"inputs": ["a", BAD]}, "inputs[1]"),
    "/embed": ({"inputs": TWO_TEXTS}, {"inputs": RED_URL}, {"inputs": ["a", BAD]}, "inputs[1]"),
    "/pipeline/feature-extraction/fake": (
        {"inputs": TWO_TEXTS}, {"inputs": RED_URL}, {"inputs": ["a", BAD]}, "inputs[1]",
    ),
    "/models/fake/pipeline/feature-extraction": (
        {"inputs": TWO_TEXTS}, {"inputs": RED_URL}, {"inputs": ["a", BAD]}, "inputs[1]",
    ),
    "/vectorize": ({"texts": TWO_TEXTS}, {"images": [RED_URL]}, {"texts": ["a"], "images": [BAD]}, "images[0]"),
    "/score": (
        {"text_1": "a", "text_2": TWO_TEXTS},
        {"text_1": "a", "text_2": RED_URL},
        {"text_1": "a", "text_2": ["b", BAD]},
        "text_2[1]",
    ),
    "/v1/score": (
        {"queries": "a", "documents": TWO_TEXTS},
        {"queries": "a", "documents": [IMAGE_CONTENT]},
        {"queries": "a", "documents": [BAD_CONTENT]},
        "documents[0].content[0].image_url",
    ),
    "/v1/ranking": (
        {"query": {"text": "a"}, "passages": [{"text": text} for text in TWO_TEXTS]},
        {"query": {"text": "a"}, "passages": [{"image": RED_URL}]},
        {"query": {"text": "a"}, "passages": [{"text": "a"}, {"image": BAD}]},
        "passages[1].image",
    ),
    "/v1/classify": (
        {"input": TWO_TEXTS, "labels": ["c", "d"]},
        {"input": [RED_URL], "labels": ["c", "d"]},
        {"input": ["a", BAD], "labels": ["c", "d"]},
        "input[1]",
    ),
}  # fmt: skip
COHERES = {"/v1/embed", "/v2/embed"}
PLAIN = {
    path for path in DOORS if path == "/" or path.endswith(("/embed", "vectorize")) or "pipeline" in path
} - COHERES


def error_of(path: str, document: dict[str, Any]) -> dict[str, Any]:
    """An error's parts, wherever that API's clients look for its message."""
    if path in PLAIN:
        assert isinstance(document["error"], str)
        assert document["error_type"] in ("Validation", "Overloaded", "Unhealthy", "Backend")
        return document | {"message": document["error"]}
    found: dict[str, Any] = document["error"]
    assert document["message" if path in COHERES else "detail"] == found["message"]
    return found


@pytest.mark.parametrize("path", DOORS)
def test_a_bad_item_is_named_where_clients_look(gateway: Gateway, path: str) -> None:
    answer = gateway.http.post(path, json=DOORS[path][2])
    assert answer.status_code == 400, answer.text
    error = error_of(path, answer.json())
    assert (error["code"], error["param"]) == ("invalid_image", DOORS[path][3])
    assert "image" in error["message"]


@pytest.mark.parametrize("path", DOORS)
def test_a_field_that_there_is_not_is_named(gateway: Gateway, path: str) -> None:
    answer = gateway.http.post(path, json=DOORS[path][0] | {"nonsense": 1})
    assert (answer.status_code, error_of(path, answer.json())["code"]) == (400, "unknown_field")


@pytest.mark.parametrize("path", DOORS)
def test_another_model_is_not_there(gateway: Gateway, path: str) -> None:
    other = path.replace("fake", "another/model")
    answer = gateway.http.post(other, json=DOORS[path][0] | ({"model": "another/model"} if other == path else {}))
    assert answer.status_code == 404
    assert error_of(path, answer.json())["code"] == "model_not_found"


@pytest.mark.parametrize("path", DOORS)
def test_it_needs_a_key_and_its_images_are_counted(tmp_path: Path, fake: FakeServer, path: str) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key = {"authorization": f"Bearer {file.create('alice', images_per_minute=1)[1]}"}
    with gateway_over(fake, Settings(keys=file.path)) as gateway:
        refused = gateway.http.post(path, json=DOORS[path][0])
        assert (refused.status_code, error_of(path, refused.json())["code"]) == (401, "invalid_api_key")
        assert gateway.http.post(path, json=DOORS[path][0], headers=key).status_code == 200
        first = gateway.http.post(path, json=DOORS[path][1], headers=key)
        assert (first.status_code, first.headers["x-ratelimit-remaining-images"]) == (200, "0")
        second = gateway.http.post(path, json=DOORS[path][1], headers=key)
        assert (second.status_code, error_of(path, second.json())["code"]) == (429, "rate_limit_exceeded")
        assert int(second.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", DOORS)
def test_it_is_counted_under_its_own_name(gateway: Gateway, path: str) -> None:
    assert gateway.http.post(path, json=DOORS[path][0]).status_code == 200
    endpoint = path.replace("/fake", "/{model}")
    assert gateway.metric(f'tritonclip_gateway_requests_total{{endpoint="{endpoint}",status="200"}}') == 1
    assert gateway.metric('tritonclip_gateway_items_total{kind="text"}') >= 2


@pytest.mark.parametrize("path", DOORS)
def test_its_items_are_limited(fake: FakeServer, path: str) -> None:
    with gateway_over(fake, Settings(limits=Limits(texts=1))) as gateway:
        answer = gateway.http.post(path, json=DOORS[path][0])
        assert (answer.status_code, error_of(path, answer.json())["code"]) == (400, "too_many_items")
    assert fake.requests("embed_text") == []


@pytest.mark.parametrize("path", DOORS)
def test_a_model_server_that_fails_is_told_without_its_words(path: str) -> None:
    def fail(call: object) -> None:
        if "embed" in getattr(call, "model", ""):
            raise ServerError("in /opt/tritonserver/secret", status_code="INTERNAL", model="embed_text")

    with gateway_over(FakeServer(before=fail)) as gateway:
        answer = gateway.http.post(path, json=DOORS[path][0])
    assert (answer.status_code, error_of(path, answer.json())["code"]) == (502, "engine_failed")
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", DOORS)
def test_json_of_no_type_is_json(gateway: Gateway, path: str) -> None:
    """As Weaviate's module sends it."""
    request = gateway.http.build_request("POST", path, json=DOORS[path][0])
    del request.headers["content-type"]
    assert gateway.http.send(request).status_code == 200


def test_every_route_that_takes_a_request_is_here_or_our_own() -> None:
    paths = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings()).openapi()["paths"]
    here = {path.replace("/fake", "/{model}") for path in DOORS}
    own = {
        "/v1/embeddings", "/v1/similarity", "/v1/rerank", "/v2/rerank", "/v1/search",
        "/v1/models/{model}/zero-shot-image-classification",
    }  # fmt: skip
    assert {path for path, operations in paths.items() if "post" in operations} == here | own


def test_a_base_url_that_is_off_by_its_version_is_told_so(gateway: Gateway) -> None:
    for path, there_is in (
        ("/v1/v1/embeddings", "/v1/embeddings"),
        ("/v1/v2/embed", "/v2/embed"),
        ("/v1/info", "/info"),
        ("/v2/v2/rerank", "/v2/rerank"),
        ("/ranking", "/v1/ranking"),
    ):
        error = gateway.refused(path, 404)
        assert f"there is {there_is}," in error["message"]
    assert "there is /" not in gateway.refused("/v1/nothing", 404)["message"]
