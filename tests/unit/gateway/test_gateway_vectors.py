"""What an engine answers is checked before it reaches a caller or the cache: vectors, counts, labels."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.images import BLUE_URL, RED_URL
from tests.unit.gateway.conftest import LABEL_SETS, Gateway, gateway_over, refuse
from tritonclip import AsyncClient, Classifications, Embeddings, ProtocolError
from tritonclip.protocol import FloatArray
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.inference.engine import OnError
from tritonclip_server.gateway.inference.text_cache import CachedText, TextCache
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.settings import Limits, Settings

EMBED, SIMILARITY, CLASSIFY = "/v1/embeddings", "/v1/similarity", "/v1/classify"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"

Spoil = Callable[[FloatArray], FloatArray]


def with_row(row: int, change: Callable[[Any], Any]) -> Spoil:
    """Change one row of what an engine answers."""

    def spoil(features: FloatArray) -> FloatArray:
        features = features.copy()
        if len(features) > row:
            features[row] = change(features[row])
        return features

    return spoil


ONE_ROW = {
    "NaN": with_row(1, lambda row: row * np.nan),
    "one NaN": with_row(1, lambda row: np.where(np.arange(len(row)) == 3, np.nan, row)),
    "infinite": with_row(1, lambda row: row * np.inf),
    "zero": with_row(1, np.zeros_like),
    "twice as long": with_row(1, lambda row: 2 * row),
    "a little too long": with_row(1, lambda row: 1.0015 * row),
    "a little too short": with_row(1, lambda row: 0.9985 * row),
    "huge": with_row(1, lambda row: np.full_like(row, 3e38)),
}
WHOLE = {
    "a row too few": lambda features: features[1:],
    "a row too many": lambda features: np.concatenate([features, features[:1]]),
    "no rows": lambda features: features[:0],
    "another width": lambda features: np.pad(features, ((0, 0), (0, 1))),
    "no width": lambda features: features[:, :0],
    "one dimension": lambda features: features[0],
}  # fmt: skip


class Spoilt(AsyncClient):
    """A client whose vectors are spoilt while `spoil` is set: another engine may not check them as this one does."""

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(transport=fake.async_transport())
        self.spoil: Spoil | None = None
        self.counts: Callable[[list[int]], list[int]] = list
        self.labels: Callable[[Any], Any] = lambda found: found

    def with_timeout(self, timeout: float) -> "Spoilt":
        return self

    async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
        return self._spoilt(await super().embed_images(images, on_error=on_error))

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        return self._spoilt(await super().embed_texts(texts, **options))

    async def count_tokens(self, texts: Any) -> list[int]:
        return self.counts(await super().count_tokens(texts))

    async def classify(self, images: Any, labels: Any = None, **options: Any) -> Classifications:
        found: Classifications = self.labels(await super().classify(images, labels, **options))
        return found

    def _spoilt(self, found: Embeddings) -> Embeddings:
        return found if self.spoil is None else replace(found, features=self.spoil(found.features))


@pytest.fixture
def engine() -> Spoilt:
    return Spoilt(FakeServer(label_sets=LABEL_SETS, refuse=refuse))


@pytest.fixture
def gateway(engine: Spoilt) -> Any:
    with gateway_over(FakeServer(), engine=engine) as running:
        yield running


@pytest.mark.parametrize("items", [["a", "b", "c"], [RED_URL, BLUE_URL, RED_URL]], ids=["texts", "images"])
@pytest.mark.parametrize("spoil", ONE_ROW.values(), ids=ONE_ROW)
def test_a_row_that_is_no_vector_is_an_error(gateway: Gateway, engine: Spoilt, items: list[str], spoil: Spoil) -> None:
    engine.spoil = spoil
    error = gateway.refused(EMBED, 502, input=items)
    assert (error["code"], error["type"], error["param"]) == ("engine_failed", "server_error", "input[1]")
    others = items if items[0] == RED_URL else [text * 2 for text in items]  # the good ones are cached by now
    answer = gateway.post(EMBED, input=others, partial=True)
    assert [entry["index"] for entry in answer["data"]] == [0, 2]
    assert [(error["index"], error["code"]) for error in answer["errors"]] == [(1, "engine_failed")]
    assert all(None not in entry["embedding"] for entry in answer["data"])
    engine.spoil = None
    well = gateway.post(EMBED, input=items)
    lengths = np.linalg.norm([entry["embedding"] for entry in well["data"]], axis=1)
    assert lengths == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("spoil", ONE_ROW.values(), ids=ONE_ROW)
def test_a_spoilt_text_is_not_remembered(gateway: Gateway, engine: Spoilt, spoil: Spoil) -> None:
    engine.spoil = spoil
    partial = gateway.post(EMBED, input=["a", "b", "c"], partial=True)
    assert [entry["index"] for entry in partial["data"]] == [0, 2]
    assert [(error["index"], error["code"]) for error in partial["errors"]] == [(1, "engine_failed")]
    engine.spoil = None
    fresh = FakeServer()
    with gateway_over(fresh) as other:
        assert gateway.post(EMBED, input=["a", "b", "c"])["data"] == other.post(EMBED, input=["a", "b", "c"])["data"]
    assert gateway.metric("tritonclip_gateway_cached_texts") == 3


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (EMBED, {"input": ["a", "b"]}),
        (EMBED, {"input": [RED_URL, BLUE_URL]}),
        (SIMILARITY, {"images": [RED_URL, BLUE_URL], "texts": ["a", "b"]}),
        (CLASSIFY, {"image": RED_URL, "labels": ["a", "b"]}),
        ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
        (ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": ["a", "b"]}}),
    ],
)
@pytest.mark.parametrize("spoil", WHOLE.values(), ids=WHOLE)
def test_an_answer_of_another_shape_is_no_answer(
    gateway: Gateway, engine: Spoilt, path: str, document: dict[str, Any], spoil: Spoil
) -> None:
    engine.spoil = spoil
    assert gateway.refused(path, 502, **document)["code"] == "engine_failed"
    assert gateway.metric("tritonclip_gateway_cached_texts") == 0
    assert gateway.metric("tritonclip_gateway_items_in_flight") == 0
    engine.spoil = None
    gateway.post(path, **document)


def test_scores_have_no_holes_where_a_text_is_spoilt(gateway: Gateway, engine: Spoilt) -> None:
    engine.spoil = ONE_ROW["NaN"]  # of the second of several: of the texts, then, not of the only image
    for path, document in (
        (SIMILARITY, {"image": RED_URL, "texts": ["a", "b"], "partial": True}),
        (CLASSIFY, {"image": RED_URL, "labels": ["a", "b"], "partial": True}),
    ):
        assert gateway.refused(path, 502, **document)["code"] == "engine_failed"


def test_an_engine_that_checks_itself_says_so_by_item() -> None:
    """As tritonclip.AsyncClient does: the row's error is a ProtocolError."""

    class Checking(Spoilt):
        def _spoilt(self, found: Embeddings) -> Embeddings:
            features = with_row(1, lambda row: row * np.nan)(found.features)
            return Embeddings(features, {1: ProtocolError("embed_text: features of length 3")})

    with gateway_over(FakeServer(), engine=Checking(FakeServer())) as running:
        answer = running.post(EMBED, input=["a", "b", "c"], partial=True)
        assert [(error["index"], error["code"]) for error in answer["errors"]] == [(1, "engine_failed")]
        assert "length 3" not in answer["errors"][0]["message"]
        assert running.refused(EMBED, 502, input=["a", "b"])["code"] == "engine_failed"


@pytest.mark.parametrize(
    "counts", [lambda c: c[1:], lambda c: [*c, 3], lambda c: [0] * len(c), lambda c: [-1] * len(c)]
)
def test_counts_that_cannot_be_are_no_usage(gateway: Gateway, engine: Spoilt, counts: Any) -> None:
    engine.counts = counts
    assert gateway.refused(EMBED, 502, input=["a", "b"])["code"] == "engine_failed"
    assert gateway.metric("tritonclip_gateway_cached_texts") == 0


def test_errors_of_items_that_were_not_sent() -> None:
    class Confused(Spoilt):
        def _spoilt(self, found: Embeddings) -> Embeddings:
            return Embeddings(found.features, {7: ProtocolError("what?")})

    with gateway_over(FakeServer(), engine=Confused(FakeServer())) as running:
        assert running.refused(EMBED, 502, input=["a", "b"])["code"] == "engine_failed"


def changed(**fields: Any) -> Callable[[Classifications], Classifications]:
    def change(found: Classifications) -> Classifications:
        return Classifications(tuple(tuple(replace(best, **fields) for best in row) for row in found))

    return change


@pytest.mark.parametrize(
    "labels",
    [
        changed(probability=float("nan")),
        changed(probability=1.5),
        changed(probability=-0.5),
        changed(cosine=float("inf")),
        changed(cosine=float("nan")),
        changed(cosine=-1.5),
        lambda found: Classifications(found.predictions[1:]),
        lambda found: Classifications((*found.predictions, ())),
    ],
)
def test_stored_labels_are_checked(gateway: Gateway, engine: Spoilt, labels: Any) -> None:
    engine.labels = labels
    assert gateway.refused(CLASSIFY, 502, images=[RED_URL, BLUE_URL], label_set="colours")["code"] == "engine_failed"
    engine.labels = lambda found: found
    assert len(gateway.post(CLASSIFY, images=[RED_URL, BLUE_URL], label_set="colours")["data"]) == 2


def entry(width: int = 640) -> CachedText:
    return CachedText(np.zeros(width, np.float32), 7)


def test_the_cache_is_bounded_in_bytes() -> None:
    metrics = Metrics()
    cache = TextCache(10_000, 1_000_000, metrics)
    for index in range(1000):
        cache.put("f", f"{index}" + "x" * 10_000, entry())
        assert cache.bytes <= 1_000_000
    kept = metrics.registry.get_sample_value("tritonclip_gateway_cached_texts", {"model": ""})
    assert kept is not None
    assert 70 < kept < 80  # 10 KB of text, 2.5 KB of numbers, and what Python adds
    assert cache.find("f", ["999" + "x" * 10_000])
    assert not cache.find("f", ["900" + "x" * 10_000])


def test_equal_texts_are_counted_once_and_all_is_given_back() -> None:
    cache = TextCache(3, 10_000_000, Metrics())
    for _ in range(5):
        cache.put("f", "a", entry())
    once = cache.bytes
    for text in ("b", "c", "d", "e" * 1000):
        cache.put("f", text, entry())
    assert 3 * once < cache.bytes < 3 * once + 2000


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = TextCache(10, 5000, Metrics())
    cache.put("f", "a", entry())
    cache.put("f", "x" * 10_000, entry())
    assert not cache.find("f", ["x" * 10_000])
    assert cache.bytes <= 5000


def test_the_setting_holds_for_requests(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(limits=Limits(cached_text_bytes=50_000))) as gateway:
        for start in range(0, 200, 50):
            gateway.post(EMBED, input=[f"{index} " + "x" * 900 for index in range(start, start + 50)])
        assert 20 < gateway.metric("tritonclip_gateway_cached_texts") < 50_000 / 900


def test_numbers_of_numpy_are_not_shared() -> None:
    """An entry keeps its own row, not the whole answer that it came in."""
    texts: Sequence[str] = [str(n) for n in range(64)]
    fake = FakeServer()
    with gateway_over(fake) as gateway:
        gateway.post(EMBED, input=list(texts))
        cache: TextCache = gateway.http.app.state.models.default(None).text_cache  # type: ignore[attr-defined]
        rows = [entry.features for entry in cache.find("fa4e0000", texts).values()]
    assert len(rows) == len(texts)
    assert all(row.base is None for row in rows)
    assert not any(np.shares_memory(one, other) for one, other in itertools.pairwise(rows))
