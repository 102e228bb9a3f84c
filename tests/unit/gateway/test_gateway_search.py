"""Searching through the gateway: queries of every kind, what is wrong with them, and rows that come meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from tests.unit.gateway.conftest import CLOSE, Gateway, gateway_over
from tests.unit.gateway.indexes import SCENES, add_images, data_url, make_index, ranked, vector_of
from tritonclip.search import Weights, mix
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.settings import Limits, Settings

PATIENCE = 30.0  # seconds for new rows to be seen; a search looks for them once a second


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_index(FakeServer(), tmp_path_factory.mktemp("indexes") / "scenes", SCENES)


@pytest.fixture
def searching(fake: FakeServer, scenes: Path) -> Iterator[Gateway]:
    with gateway_over(fake, indexes={"scenes": scenes}) as running:
        yield running


def uris(answer: dict[str, Any]) -> list[Path]:
    return [Path(result["uri"]) for result in answer["data"]]


def test_a_text_finds_the_nearest_images_best_first(searching: Gateway, fake: FakeServer) -> None:
    answer = searching.post("/v1/search", text="a red square")
    query = vector_of(fake, "a red square")
    assert uris(answer) == ranked(fake, query, SCENES)[:20]
    first = answer["data"][0]
    assert first["object"] == "search.result"
    assert first["score"] == pytest.approx(float(vector_of(fake, uris(answer)[0].read_bytes()) @ query), abs=CLOSE)
    with Image.open(first["uri"]) as image:
        assert (first["metadata"]["width"], first["metadata"]["height"]) == image.size
    assert (answer["object"], answer["index"], answer["model"]) == ("list", "scenes", "fake")
    assert (answer["exact"], answer["rows"]) == (True, len(SCENES))
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5, "num_images": 0}


def test_an_image_finds_itself_in_json_and_in_a_form(searching: Gateway) -> None:
    answer = searching.post("/v1/search", image=data_url(SCENES[3]), top_k=2)
    assert uris(answer)[0] == SCENES[3]
    assert answer["data"][0]["score"] == pytest.approx(1, abs=CLOSE)
    assert answer["usage"]["num_images"] == 1
    form = searching.http.post(
        "/v1/search", files={"image": SCENES[3].read_bytes()}, data={"top_k": "2", "index": "scenes"}
    )
    for found, expected in zip(form.json()["data"], answer["data"], strict=True):
        assert found == expected | {"score": pytest.approx(expected["score"], abs=CLOSE)}


def test_parts_are_mixed_as_the_library_mixes_them(searching: Gateway, fake: FakeServer) -> None:
    weights = {"text": 2, "image": 1, "minus": 0.75}
    answer = searching.post(
        "/v1/search", text="a star", image=data_url(SCENES[0]), minus=["red", "blue"], weights=weights, top_k=5
    )
    minus = [vector_of(fake, "red"), vector_of(fake, "blue")]
    query = mix(Weights(2, 1, 0.75), vector_of(fake, "a star"), vector_of(fake, SCENES[0].read_bytes()), minus)
    assert uris(answer) == ranked(fake, query, SCENES)[:5]


def test_a_vector_of_any_length(searching: Gateway, fake: FakeServer) -> None:
    vector = [float(value) for value in 7 * vector_of(fake, SCENES[5].read_bytes())]
    answer = searching.post("/v1/search", vector=vector, top_k=1)
    assert uris(answer) == [SCENES[5]]
    assert answer["data"][0]["score"] == pytest.approx(1, abs=CLOSE)
    assert not fake.requests("embed_text")
    assert not fake.requests("embed_image")


def test_more_like_a_row_leaves_that_out_and_needs_no_model(searching: Gateway, fake: FakeServer) -> None:
    first = searching.post("/v1/search", image=data_url(SCENES[2]), top_k=1)["data"][0]
    asked = len(fake.requests("embed_image"))
    answer = searching.post("/v1/search", like=first["id"], top_k=4)
    assert uris(answer) == ranked(fake, vector_of(fake, SCENES[2].read_bytes()), SCENES)[1:5]
    assert len(fake.requests("embed_image")) == asked
    assert not fake.requests("embed_text")


def test_a_filter_and_what_is_included(searching: Gateway) -> None:
    wide = {scene for scene in SCENES if Image.open(scene).width > 300}
    assert 0 < len(wide) < len(SCENES)
    answer = searching.post("/v1/search", text="x", filter="width > 300 AND uri LIKE '%.jpg'", top_k=100, include=[])
    assert set(uris(answer)) == wide
    assert all("metadata" not in result for result in answer["data"])


def test_a_text_that_is_cut_is_told_or_refused(searching: Gateway) -> None:
    assert searching.post("/v1/search", text="word " * 90)["query_truncated"] is True
    assert "query_truncated" not in searching.post("/v1/search", text="word")
    assert searching.refused("/v1/search", 400, text="word " * 90, truncate=False)["code"] == "text_too_long"


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({}, "text", "missing_field"),
        ({"text": "x", "vector": [1.0]}, "vector", "invalid_value"),
        ({"image": "AAAA", "like": "0" * 20}, "like", "invalid_value"),
        ({"vector": [1.0] * 16, "minus": "x"}, "minus", "invalid_value"),
        ({"like": "0" * 20, "weights": {"text": 2}}, "weights", "invalid_value"),
        ({"text": ["a", "b"]}, "text", "invalid_value"),
        ({"text": SCENES[0].as_uri(), "image": 3}, "image", "invalid_value"),
        ({"image": "bm8gaW1hZ2U="}, "image", "invalid_image"),
        ({"text": "x", "top_k": 0}, "top_k", "invalid_value"),
        ({"text": "x", "top_k": 101}, "top_k", "invalid_value"),
        ({"text": "x", "weights": {"text": -1}}, "weights.text", "invalid_value"),
        ({"text": "x", "weights": {"text": 0}}, "weights", "invalid_value"),
        ({"text": "x", "minus": "x", "weights": {"minus": 1}}, "weights", "invalid_value"),
        ({"vector": [1.0] * 15}, "vector", "unsupported_dimensions"),
        ({"vector": [0.0] * 16}, "vector", "invalid_value"),
        ({"vector": [1e308] * 16}, "vector", "invalid_value"),
        ({"vector": [10**400, *[0] * 15]}, "vector", "invalid_json"),
        ({"vector": [*[1.0] * 15, "1"]}, "vector[15]", "invalid_value"),
        ({"vector": "1,2"}, "vector", "invalid_value"),
        ({"text": "x", "include": ["vectors"]}, "include[0]", "invalid_value"),
        ({"text": "x", "where": "width > 1"}, "where", "unknown_field"),
        ({"text": "x", "filter": "nothing > 1"}, "filter", "invalid_filter"),
        ({"text": "x", "filter": "width"}, "filter", "invalid_filter"),
        ({"text": "x", "filter": "width > 1 and so on"}, "filter", "invalid_filter"),
        ({"text": "x", "filter": "width / 0 > 1"}, "filter", "invalid_filter"),
        ({"text": "x", "filter": "uri IN (SELECT uri FROM images)"}, "filter", "invalid_filter"),
        ({"text": "x", "filter": "read_csv('/etc/passwd') = 'x'"}, "filter", "invalid_filter"),
        ({"text": "x", "index": "others"}, "index", "index_not_found"),
        ({"text": "x", "model": "others"}, "model", "model_not_found"),
    ],
)
def test_what_is_wrong_is_named(searching: Gateway, asked: dict[str, Any], param: str, code: str) -> None:
    answer = searching.http.post("/v1/search", json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404 if code.endswith("not_found") else 400, code)
    assert error["param"] == (None if code == "invalid_json" else param)
    assert ".cargo" not in answer.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing > 1", "filter: Schema error: No field named nothing"),
        ("width > 1 and so on", "filter: Expected: ), found: on"),
        ("uri LIKE '/data/%' AND repeat(uri, 9) = uri", "filter: at character 30, '(uri, 9) = uri': repeat cannot be"),
        ("uri = '/etc/passwd' AND width = 'x/y/z'", "filter: the store cannot use it as a condition"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said_but_for_what_names_places(
    searching: Gateway, text: str, said: str
) -> None:
    assert searching.refused("/v1/search", 400, text="x", filter=text)["message"].startswith(said)


IDS = ["../../etc/passwd", "%2e%2e%2f", "'; --", "' OR '1'='1", "0" * 19, "G" * 20, "/etc/passwd", "", "0" * 20]


@pytest.mark.parametrize("row", IDS)
def test_an_id_that_is_none_finds_nothing(searching: Gateway, row: str) -> None:
    assert searching.refused("/v1/search", 404, like=row)["param"] == "like"
    spelt = quote(row, safe="")
    assert searching.http.get(f"/v1/indexes/scenes/thumbnails/{spelt}").status_code == 404
    assert searching.http.get(f"/v1/indexes/{spelt or 'none'}").status_code == 404


def test_new_rows_are_found_without_a_restart(fake: FakeServer, tmp_path: Path) -> None:
    folder = make_index(fake, tmp_path / "scenes", SCENES[:4])
    with gateway_over(fake, indexes={"scenes": folder}) as gateway:
        assert gateway.post("/v1/search", text="x")["rows"] == 4
        add_images(fake, folder, SCENES[4:])
        until = time.monotonic() + PATIENCE
        while gateway.post("/v1/search", text="x")["rows"] == 4 and time.monotonic() < until:
            time.sleep(0.1)
        answer = gateway.post("/v1/search", image=data_url(SCENES[-1]), top_k=1)
        assert (answer["rows"], uris(answer)) == (len(SCENES), [SCENES[-1]])
        assert gateway.http.get(answer["data"][0]["thumbnail"]).status_code == 200


def test_another_models_index_is_refused_but_for_what_is_like_a_row(fake: FakeServer, scenes: Path) -> None:
    fake.manifest["fingerprint"] = "0the7"
    with gateway_over(fake, indexes={"scenes": scenes}) as gateway:
        for asked in ({"text": "x"}, {"image": data_url(SCENES[0])}, {"vector": [1.0] * 16}):
            error = gateway.refused("/v1/search", 409, **asked)
            assert (error["code"], error["param"]) == ("index_mismatch", "index")
            assert "fa4e0000" in error["message"]
            assert "0the7" in error["message"]
        assert not fake.requests("embed_text")
        row = gateway.http.get("/v1/indexes/scenes/samples").json()["data"][0]["id"]
        assert gateway.post("/v1/search", like=row)["data"]
        assert gateway.http.get("/v1/indexes/scenes").json()["matches_model"] is False


def test_several_indexes_are_told_apart_and_none_is_said(fake: FakeServer, scenes: Path, tmp_path: Path) -> None:
    few = make_index(fake, tmp_path / "few", SCENES[:2], thumbnails=False)
    with gateway_over(fake, indexes={"scenes": scenes, "few": few}) as gateway:
        assert gateway.refused("/v1/search", 400, text="x")["param"] == "index"
        answer = gateway.post("/v1/search", text="x", index="few")
        assert (answer["rows"], {result["thumbnail"] for result in answer["data"]}) == (2, {None})
        row = answer["data"][0]["id"]
        assert gateway.http.get(f"/v1/indexes/few/thumbnails/{row}").status_code == 404
        assert [index["id"] for index in gateway.http.get("/v1/indexes").json()["data"]] == ["scenes", "few"]
    with gateway_over(fake) as gateway:
        assert gateway.refused("/v1/search", 404, text="x")["code"] == "index_not_found"
        assert gateway.http.get("/v1/indexes").json() == {"object": "list", "data": []}


def test_indexes_are_described_with_samples_and_thumbnails(searching: Gateway) -> None:
    described = searching.http.get("/v1/indexes/scenes").json()
    assert described["columns"][:4] == ["id", "uri", "width", "height"]
    assert (described["rows"], described["width"], described["matches_model"]) == (len(SCENES), 16, True)
    assert "vector" not in described["columns"]
    samples = searching.http.get("/v1/indexes/scenes/samples").json()
    assert len({row["id"] for row in samples["data"]}) == 8
    assert samples == searching.http.get("/v1/indexes/scenes/samples").json()
    url = samples["data"][0]["thumbnail"]
    thumbnail = searching.http.get(url)
    assert (thumbnail.headers["content-type"], thumbnail.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert "private" in thumbnail.headers["cache-control"]
    tag = thumbnail.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = searching.http.get(url, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert searching.http.get(url, headers={"if-none-match": '"other"'}).status_code == 200


def test_all_of_it_needs_a_key_and_counts_for_it(fake: FakeServer, scenes: Path, tmp_path: Path) -> None:
    _, key = KeyFile(tmp_path / "keys.json").create("alice", images_per_minute=1)
    settings = Settings(keys=tmp_path / "keys.json")
    allowed = {"authorization": f"Bearer {key}"}
    with gateway_over(fake, settings, indexes={"scenes": scenes}) as gateway:
        sample = gateway.http.get("/v1/indexes/scenes/samples", headers=allowed).json()["data"][0]
        for path in ("/v1/indexes", "/v1/indexes/scenes", "/v1/indexes/scenes/samples", sample["thumbnail"]):
            assert gateway.http.get(path).status_code == 401
            assert gateway.http.get(path, headers=allowed).status_code == 200
        assert gateway.http.post("/v1/search", json={"text": "x"}).status_code == 401
        image = {"image": data_url(SCENES[0])}
        assert gateway.http.post("/v1/search", json=image, headers=allowed).status_code == 200
        assert gateway.http.post("/v1/search", json=image, headers=allowed).status_code == 429
        assert gateway.http.post("/v1/search", json={"like": sample["id"]}, headers=allowed).status_code == 200


def test_texts_are_cached_and_searches_counted(searching: Gateway, fake: FakeServer) -> None:
    for _ in range(3):
        searching.post("/v1/search", text="a red square")
    assert len(fake.requests("embed_text")) == 1
    counted = 'tritonclip_gateway_requests_total{endpoint="/v1/search",status="200"}'
    assert searching.metric(counted) == 3
    assert searching.metric("tritonclip_gateway_searches_in_flight") == 0


def test_the_limits_of_texts_and_images_hold(fake: FakeServer, scenes: Path) -> None:
    limits = Limits(image_bytes=100, text_characters=10, texts=3)
    with gateway_over(fake, Settings(limits=limits), indexes={"scenes": scenes}) as gateway:
        assert gateway.refused("/v1/search", 400, image=data_url(SCENES[0]))["code"] == "image_too_large"
        assert gateway.refused("/v1/search", 400, text="x" * 11)["code"] == "text_too_long"
        assert gateway.refused("/v1/search", 400, text="x", minus=["a", "b", "c"])["code"] == "too_many_items"
        url = "https://images.example/cat.jpg"
        assert gateway.refused("/v1/search", 400, image=url)["code"] == "url_images_disabled"


def test_an_empty_index_has_nothing_and_gets_its_first_rows(fake: FakeServer, tmp_path: Path) -> None:
    folder = make_index(fake, tmp_path / "scenes", [])
    with gateway_over(fake, indexes={"scenes": folder}) as gateway:
        assert gateway.post("/v1/search", text="x")["data"] == []
        assert gateway.post("/v1/search", text="x", filter="width > 1")["data"] == []
        assert gateway.http.get("/v1/indexes/scenes/samples").json()["data"] == []
        add_images(fake, folder, SCENES[:2])
        until = time.monotonic() + PATIENCE
        while not gateway.post("/v1/search", text="x")["data"] and time.monotonic() < until:
            time.sleep(0.1)
        assert len(gateway.http.get("/v1/indexes/scenes/samples").json()["data"]) == 2
