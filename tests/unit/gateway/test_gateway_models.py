"""Several models behind one gateway: which one a request is for, and that one's trouble is nobody else's."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_server import listening
from tests.images import RED_URL
from tests.unit.gateway.conftest import Gateway, gateway_over
from tests.unit.gateway.indexes import SCENES, make_index
from tests.unit.gateway.test_gateway_service import StuckClient
from tests.unit.gateway.test_gateway_waiting import until
from tritonclip import AsyncClient, ConfigError, ConnectError, Manifest
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.inference import models
from tritonclip_server.gateway.model_options import aliases_of, models_of
from tritonclip_server.gateway.settings import Limits, Settings

EMBED = "/v1/embeddings"
AWAY = ConnectError("10.0.0.5:8001", "refused")
ALIASES = {"clip": None, "big": "b"}


class Down(AsyncClient):
    """A client of a server that is away, from the start or once `away` is set; what it was told it remembers."""

    def __init__(self, fake: FakeServer, *, away: bool = True) -> None:
        super().__init__(transport=fake.async_transport())
        self.away = away
        self.remembered: Manifest | None = None

    def with_timeout(self, timeout: float) -> "Down":
        return self

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        if self.away and (refresh or self.remembered is None):
            raise AWAY
        if refresh or self.remembered is None:
            self.remembered = await super().manifest(refresh=True)
        return self.remembered

    async def embed_texts(self, texts: Any, **options: Any) -> Any:
        if self.away:
            raise AWAY
        return await super().embed_texts(texts, **options)


@pytest.fixture
def a() -> FakeServer:
    return FakeServer(width=16, manifest={"variant": "small", "fingerprint": "aaaa"})


@pytest.fixture
def b() -> FakeServer:
    return FakeServer(width=24, manifest={"variant": "large", "fingerprint": "bbbb"})


def client(fake: FakeServer) -> AsyncClient:
    return AsyncClient(transport=fake.async_transport())


@pytest.fixture
def both(a: FakeServer, b: FakeServer) -> Iterator[Gateway]:
    with gateway_over(a, Settings(aliases=ALIASES), engine={"a": client(a), "b": client(b)}) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (None, "a"), ("default/not-specified", "a"), ("a", "a"), ("b", "b"), ("small", "a"), ("large", "b"),
        ("clip", "a"), ("big", "b"),
    ],
)  # fmt: skip
def test_a_request_names_its_model(both: Gateway, asked: str | None, answers: str) -> None:
    answer = both.http.post(EMBED, json={"input": "x"} | ({} if asked is None else {"model": asked}))
    assert answer.json()["model"] == answers
    assert len(answer.json()["data"][0]["embedding"]) == {"a": 16, "b": 24}[answers]
    assert answer.headers["x-model-fingerprint"] == answers * 4


REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/similarity": {"image": RED_URL, "texts": ["x", "y"]},
    "/v1/classify": {"image": RED_URL, "labels": ["x", "y"]},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
    "/v1/embed": {"texts": ["x"]},
    "/v1/multimodalembeddings": {"inputs": [{"content": [{"type": "text", "text": "x"}]}]},
    "/embed": {"inputs": "x"},
    "/rerank": {"query": "x", "texts": ["y"]},
    "/score": {"text_1": "x", "text_2": "y"},
    "/v1/ranking": {"query": {"text": "x"}, "passages": [{"text": "y"}]},
    "/vectorize": {"texts": ["x"]},
}


@pytest.mark.parametrize("path", REQUESTS)
def test_every_api_takes_it(both: Gateway, b: FakeServer, path: str) -> None:
    for model, fingerprint in ((None, "aaaa"), ("b", "bbbb")):
        answer = both.http.post(path, json=REQUESTS[path] | ({"model": model} if model else {}))
        assert (answer.status_code, answer.headers["x-model-fingerprint"]) == (200, fingerprint)
    assert b.requests("embed_text")
    assert both.http.post(path, json=REQUESTS[path] | {"model": "c"}).status_code == 404


def test_paths_name_it_too(both: Gateway) -> None:
    labels = {"inputs": RED_URL, "parameters": {"candidate_labels": ["x", "y"]}}
    for path, body in (
        ("/v1/models/b/zero-shot-image-classification", labels),
        ("/pipeline/feature-extraction/b", {"inputs": "x"}),
    ):
        assert both.http.post(path, json=body).headers["x-model-fingerprint"] == "bbbb"


def test_all_are_listed_the_default_one_first(both: Gateway) -> None:
    listed = both.http.get("/v1/models").json()["data"]
    assert [(model["id"], model["root"], model["variant"]) for model in listed] == [
        ("a", "a", "small"), ("b", "b", "large"), ("clip", "a", "small"), ("big", "b", "large"),
    ]  # fmt: skip
    assert both.http.get("/v1/models/large").json()["dimensions"] == 24
    message = both.refused(EMBED, 404, model="c", input="x")["message"]
    assert 'there are "a", "b"' in message
    assert "--alias c=MODEL" in message
    assert both.http.get("/info").json()["model_id"] == both.http.get("/meta").json()["id"] == "a"


def test_a_variant_that_two_are_of_names_none(a: FakeServer) -> None:
    with gateway_over(a, engine={"one": client(a), "two": client(a)}) as gateway:
        assert gateway.refused(EMBED, 404, model="small", input="x")["code"] == "model_not_found"


def test_one_that_is_away_is_away_alone(a: FakeServer, b: FakeServer) -> None:
    with gateway_over(a, engine={"a": client(a), "b": Down(b)}) as gateway:
        error = gateway.refused(EMBED, 503, model="b", input="x")
        assert (error["code"], "10.0.0.5" in error["message"]) == ("engine_unavailable", False)
        assert gateway.post(EMBED, input="x")["model"] == "a"
        listed = gateway.http.get("/v1/models").json()["data"]
        assert [(model["id"], model["dimensions"], model["fingerprint"]) for model in listed] == [
            ("a", 16, "aaaa"), ("b", None, None),
        ]  # fmt: skip
        assert gateway.http.get("/v1/models/b").json()["variant"] is None
        health = gateway.http.get("/health/ready")
        assert health.status_code == 200
        states = {model["id"]: model["status"] for model in health.json()["models"]}
        assert states == {"a": "ready", "b": "not ready"}
        assert gateway.http.get("/health/ready?model=a").status_code == 200
        alone = gateway.http.get("/health/ready?model=b")
        assert (alone.status_code, alone.json()["status"]) == (503, "not ready")
        assert gateway.http.get("/health/ready?model=c").status_code == 404
        assert gateway.http.get("/.well-known/ready").status_code == 204
        assert gateway.metric('tritonclip_gateway_model_ready{model="a"}') == 1
        counted = f'tritonclip_gateway_requests_total{{endpoint="{EMBED}",model="b",status="503"}}'
        assert gateway.metric(counted) == 1


def test_none_that_answers_is_not_ready(a: FakeServer, b: FakeServer) -> None:
    with gateway_over(a, engine={"a": Down(a), "b": Down(b)}) as gateway:
        health = gateway.http.get("/health/ready")
        assert health.status_code == 503
        assert [model["status"] for model in health.json()["models"]] == ["not ready"] * 2


def test_a_lone_one_that_never_answered_is_not_ready(a: FakeServer) -> None:
    with gateway_over(a, engine=Down(a)) as gateway:
        answer = gateway.http.get("/health/ready")
        assert (answer.status_code, set(answer.json())) == (503, {"status", "detail"})
        answer = gateway.http.get("/.well-known/ready")
        assert (answer.status_code, answer.text) == (503, "")
        assert gateway.refused(EMBED, 503, input="x")["code"] == "engine_unavailable"


def test_what_went_away_keeps_its_names(a: FakeServer, b: FakeServer) -> None:
    away = Down(b, away=False)
    with gateway_over(a, engine={"a": client(a), "b": away}) as gateway:
        assert gateway.post(EMBED, model="large", input="x")["model"] == "b"
        away.away = True
        assert gateway.http.get("/v1/models").json()["data"][1]["fingerprint"] == "bbbb"
        assert gateway.refused(EMBED, 503, model="large", input="y")["code"] == "engine_unavailable"


def test_one_that_hangs_takes_no_places_from_another(
    a: FakeServer, b: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "READY_SECONDS", 1.0)
    stuck = StuckClient(b)
    limits = Limits(items_in_flight=2, waiting=3, waiting_seconds=60)
    with listening(create_app({"a": client(a), "b": stuck}, Settings(limits=limits))) as url:

        def ask(model: str) -> httpx.Response:
            return httpx.post(url + EMBED, json={"model": model, "input": RED_URL}, timeout=60)

        threads = [threading.Thread(target=ask, args=("b",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(url, 'requests_waiting{model="b",room="places"}', 3)
        assert ask("b").json()["error"]["code"] == "overloaded"
        assert ask("a").status_code == 200
        assert httpx.get(f"{url}/health/ready?model=a", timeout=60).status_code == 200  # that is known for 5 s
        health = httpx.get(f"{url}/health/ready", timeout=60)
        assert health.status_code == 200
        assert health.json()["models"][1] == {"id": "b", "status": "not ready", "detail": "no answer within 1 s"}
        stuck.release.set()
        for thread in threads:
            thread.join(30)


def test_each_has_its_own_cache_and_its_own_numbers(both: Gateway, a: FakeServer, b: FakeServer) -> None:
    for model in ("a", "b", "a", "b", "made up"):
        both.http.post(EMBED, json={"model": model, "input": ["x"]})
    assert len(a.requests("embed_text")) == len(b.requests("embed_text")) == 1
    for model in ("a", "b"):
        assert both.metric(f'tritonclip_gateway_text_cache_total{{model="{model}",result="hit"}}') == 1
        assert both.metric(f'tritonclip_gateway_cached_texts{{model="{model}"}}') == 1
        assert both.metric(f'tritonclip_gateway_items_total{{kind="text",model="{model}"}}') == 2
        counted = f'tritonclip_gateway_requests_total{{endpoint="{EMBED}",model="{model}",status="200"}}'
        assert both.metric(counted) == 2
    info = 'tritonclip_gateway_model_info{{fingerprint="{}",model="b",variant="large"}}'
    assert both.metric(info.format("bbbb")) == 1
    assert "made up" not in both.http.get("/metrics").text


def test_another_model_behind_a_name_replaces_what_metrics_say_of_it(both: Gateway, b: FakeServer) -> None:
    b.manifest |= {"fingerprint": "cccc"}
    assert both.http.get("/health/ready").status_code == 200  # it asks anew
    metrics = both.http.get("/metrics").text
    assert 'fingerprint="cccc",model="b"' in metrics
    assert "bbbb" not in metrics


@pytest.fixture
def limited(a: FakeServer, b: FakeServer, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway asked with a key that is for b alone, and indexes of both."""
    _, key = KeyFile(tmp_path / "keys.json").create("bob", models=["b"])
    settings = Settings(keys=tmp_path / "keys.json", aliases=ALIASES | {"*": None})
    indexes = {name: make_index(fake, tmp_path / name, SCENES[:3]) for name, fake in (("of-a", a), ("of-b", b))}
    with gateway_over(a, settings, engine={"a": client(a), "b": client(b)}, indexes=indexes) as running:
        running.http.headers["authorization"] = f"Bearer {key}"
        yield running


def test_a_limited_key_has_its_models_alone(limited: Gateway) -> None:
    assert [model["id"] for model in limited.http.get("/v1/models").json()["data"]] == ["b", "big"]
    for asked in ({}, {"model": "b"}, {"model": "big"}, {"model": "any name"}):
        assert limited.post(EMBED, input="x", **asked)["model"] == "b"
    for name in ("a", "small", "clip"):
        error = limited.refused(EMBED, 403, input="x", model=name)
        assert (error["code"], error["param"]) == ("model_not_allowed", "model")
        assert limited.http.get(f"/v1/models/{name}").status_code == 403
    assert limited.http.get("/info").json()["model_id"] == "b"


def test_a_limited_key_has_their_indexes_alone(limited: Gateway) -> None:
    assert [index["id"] for index in limited.http.get("/v1/indexes").json()["data"]] == ["of-b"]
    row = limited.post("/v1/search", text="x")["data"][0]  # the only one, for this key
    assert limited.http.get(row["thumbnail"]).status_code == 200
    for body in ({"text": "x"}, {"like": row["id"]}, {"vector": [1.0] * 16}):
        assert limited.refused("/v1/search", 403, index="of-a", **body)["code"] == "model_not_allowed"
    for path in ("", "/samples", f"/thumbnails/{row['id']}"):
        assert limited.http.get(f"/v1/indexes/of-a{path}").status_code == 403


def test_a_key_for_models_that_are_not_here_has_none(a: FakeServer, tmp_path: Path) -> None:
    _, key = KeyFile(tmp_path / "keys.json").create("bob", models=["elsewhere"])
    for engine in (client(a), {"a": client(a)}):
        with gateway_over(a, Settings(keys=tmp_path / "keys.json"), engine=engine) as gateway:
            gateway.http.headers["authorization"] = f"Bearer {key}"
            assert gateway.http.get("/v1/models").json()["data"] == []
            assert gateway.refused(EMBED, 403, input="x")["code"] == "model_not_allowed"
            assert "none for this key" in gateway.refused(EMBED, 404, input="x", model="c")["message"]


def test_a_model_without_a_name_goes_by_its_variant_for_keys(a: FakeServer, tmp_path: Path) -> None:
    _, key = KeyFile(tmp_path / "keys.json").create("bob", models=["small"])
    with gateway_over(a, Settings(keys=tmp_path / "keys.json")) as gateway:
        gateway.http.headers["authorization"] = f"Bearer {key}"
        assert gateway.post(EMBED, input="x")["model"] == "small"


def test_a_search_asks_the_model_of_its_index(a: FakeServer, b: FakeServer, tmp_path: Path) -> None:
    indexes = {"of-b": make_index(b, tmp_path / "b", SCENES[:3]), "old": make_index(FakeServer(), tmp_path / "o", [])}
    with gateway_over(a, engine={"a": client(a), "b": client(b)}, indexes=indexes) as gateway:
        answer = gateway.http.post("/v1/search", json={"index": "of-b", "text": "x"})
        assert (answer.status_code, answer.headers["x-model-fingerprint"]) == (200, "bbbb")
        assert gateway.refused("/v1/search", 409, index="of-b", model="a", text="x")["code"] == "index_mismatch"
        assert gateway.refused("/v1/search", 409, index="old", text="x")["code"] == "index_mismatch"
        states = [index["matches_model"] for index in gateway.http.get("/v1/indexes").json()["data"]]
        assert states == [True, False]


def test_a_search_waits_for_no_other_model_and_is_not_refused_for_one_that_is_away(
    a: FakeServer, b: FakeServer, tmp_path: Path
) -> None:
    indexes = {name: make_index(fake, tmp_path / name, SCENES[:3]) for name, fake in (("of-a", a), ("of-b", b))}
    with gateway_over(a, engine={"a": client(a), "b": Down(b)}, indexes=indexes) as gateway:
        assert gateway.post("/v1/search", index="of-a", text="x")["data"]
        assert gateway.refused("/v1/search", 503, index="of-b", text="x")["code"] == "engine_unavailable"
        assert gateway.http.get("/v1/indexes/of-b").json()["matches_model"] is None


def test_urls_with_names_and_without() -> None:
    assert models_of([]) == {"": None}
    assert models_of(["grpc://x:1?model=vit"]) == {"": "grpc://x:1?model=vit"}
    assert models_of(["a=grpc://x:1,y:2?model=vit"]) == {"a": "grpc://x:1,y:2?model=vit"}
    assert models_of(["a=grpc://x:1?model=vit", "org/b-1.2=https://y/z=1"]) == {
        "a": "grpc://x:1?model=vit",
        "org/b-1.2": "https://y/z=1",
    }
    for urls, reason in (
        (["grpc://x", "b=grpc://y"], "each of several needs a name"),
        (["a=grpc://x", "a=grpc://y"], "two models of the name a"),
        (["a="], "no URL"),
        (["=grpc://x"], "a name has letters"),
        (["a b=grpc://x"], "a name has letters"),
        (["x" * 129 + "=grpc://x"], "a name has letters"),
    ):
        with pytest.raises(ConfigError, match=reason):
            models_of(urls)


def test_aliases_of_models() -> None:
    assert aliases_of(["x", "*", "y=b", "y=b", "a"], ["a", "b"]) == {"x": None, "*": None, "y": "b", "a": None}
    for given, names, reason in (
        (["x=c"], ["a", "b"], "of which there is a, b"),
        (["x=c"], [""], "none with a name"),
        (["x="], [""], "none with a name"),
        (["=a"], ["a"], "expected NAME"),
        (["b"], ["a", "b"], "another model has this name"),
        (["a=b"], ["a", "b"], "another model has this name"),
        (["x", "x=b"], ["a", "b"], "stands for the first model already"),
    ):
        with pytest.raises(ConfigError, match=reason):
            aliases_of(given, names)
