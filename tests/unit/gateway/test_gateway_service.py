"""Backpressure, deadlines, hang-ups, the text cache, names in headers, and errors of the engine."""

import asyncio
import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import httpx
import pytest

from tests.gateway_server import listening
from tests.images import RED_URL
from tests.raw_http import connect, post
from tests.samples import sample
from tests.unit.gateway.conftest import Gateway, gateway_over
from tests.waiting import wait_for
from tritonclip import AsyncClient, ConnectError, Embeddings, ProtocolError, TritonClipError
from tritonclip.protocol import status_error
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.errors import FAILURES, MESSAGES, STATUSES, ApiError, translate
from tritonclip_server.gateway.inference.engine import OnError
from tritonclip_server.gateway.settings import Limits, Settings


class StuckClient(AsyncClient):
    """A client whose images never come back, until `release`; it counts what is under way and what was cancelled."""

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(transport=fake.async_transport())
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.release = threading.Event()
        self.timeouts: list[float] = []

    def with_timeout(self, timeout: float) -> "StuckClient":
        self.timeouts.append(timeout)
        return self

    async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
        self.begun.release()
        try:
            while not self.release.is_set():  # noqa: ASYNC110 - it is set from another thread
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        return await super().embed_images(images, on_error=on_error)


@pytest.fixture
def stuck(fake: FakeServer) -> StuckClient:
    return StuckClient(fake)


def ask(url: str, **options: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json={"input": [RED_URL, RED_URL]}, timeout=60, **options)


@pytest.fixture
def busy(stuck: StuckClient) -> Iterator[str]:
    """A gateway with room for three items, whose engine is stuck."""
    with listening(create_app(stuck, Settings(limits=Limits(items_in_flight=3, waiting_seconds=0.3)))) as url:
        yield url
        stuck.release.set()


def in_background(call: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_beyond_the_items_in_flight_requests_wait_and_are_refused(busy: str, stuck: StuckClient) -> None:
    thread, answers = in_background(lambda: ask(busy))
    assert stuck.begun.acquire(timeout=30)
    refused = ask(busy)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "overloaded"
    assert 1 <= int(refused.headers["retry-after"]) <= 4
    assert sample(httpx.get(f"{busy}/metrics", timeout=30).text, "tritonclip_gateway_items_in_flight") == 2
    assert httpx.get(f"{busy}/health/live", timeout=30).status_code == 200
    text = {"input": "there is room for one"}
    assert httpx.post(f"{busy}/v1/embeddings", json=text, timeout=30).status_code == 200
    stuck.release.set()
    thread.join(30)
    assert answers[0].status_code == 200
    assert ask(busy).status_code == 200
    assert sample(httpx.get(f"{busy}/metrics", timeout=30).text, "tritonclip_gateway_items_in_flight") == 0


def test_a_caller_that_hangs_up_cancels_its_work(busy: str, stuck: StuckClient) -> None:
    with connect(busy) as connection:
        connection.sendall(post("/v1/embeddings", json.dumps({"input": RED_URL}).encode()))
        assert stuck.begun.acquire(timeout=30)
    assert stuck.cancelled.acquire(timeout=30)
    gone = 'tritonclip_gateway_requests_total{endpoint="/v1/embeddings",status="499"}'
    wait_for(lambda: sample(httpx.get(f"{busy}/metrics", timeout=30).text, gone) == 1)
    assert sample(httpx.get(f"{busy}/metrics", timeout=30).text, "tritonclip_gateway_items_in_flight") == 0


def test_a_deadline_of_the_caller_is_passed_on_and_kept(busy: str, stuck: StuckClient) -> None:
    seconds = 0.1
    while not stuck.begun.acquire(blocking=False):  # where a machine stands still, the time ends before that
        seconds *= 2
        answer = ask(busy, headers={"x-request-timeout": str(seconds)})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"
    assert stuck.cancelled.acquire(timeout=30)
    assert 0 < stuck.timeouts[-1] <= seconds + 1e-6  # what is left of it: a difference of two clock readings


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", ""])
def test_a_deadline_that_makes_no_sense(gateway: Gateway, value: str) -> None:
    answer = gateway.http.post("/v1/embeddings", json={"input": "a"}, headers={"x-request-timeout": value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-request-timeout"


def test_the_gateways_own_time_limit(fake: FakeServer, stuck: StuckClient) -> None:
    with gateway_over(fake, Settings(limits=Limits(seconds=0.2)), engine=stuck) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": RED_URL}, headers={"x-request-timeout": "50"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_body_that_never_ends_does_not_hold_the_gateway(stuck: StuckClient) -> None:
    def trickle() -> Iterator[bytes]:
        yield b'{"input": "'
        stuck.release.wait(30)

    with listening(create_app(stuck, Settings(limits=Limits(seconds=0.2)))) as url:
        headers = {"content-type": "application/json"}
        thread, _ = in_background(
            lambda: httpx.post(f"{url}/v1/embeddings", content=trickle(), headers=headers, timeout=30)
        )
        try:
            wait_for(lambda: 'status="408"' in httpx.get(f"{url}/metrics", timeout=30).text, 25)
        finally:
            stuck.release.set()
            thread.join(30)


def test_repeated_texts_are_asked_for_once(gateway: Gateway) -> None:
    first = gateway.post("/v1/embeddings", input=["a", "b", "a"])
    asked = [item for call in gateway.fake.requests("embed_text") for item in call.inputs[0].items()]
    assert asked == [b"a", b"b"]
    assert gateway.post("/v1/embeddings", input=["a", "b", "a"]) == first
    gateway.post("/v1/similarity", image=RED_URL, texts=["b", "a"])
    assert len(gateway.fake.requests("embed_text")) == 1
    assert len(gateway.fake.requests("text_tokenize")) == 1
    assert gateway.metric('tritonclip_gateway_text_cache_total{result="miss"}') == 2
    assert gateway.metric('tritonclip_gateway_text_cache_total{result="hit"}') == 4
    assert gateway.metric("tritonclip_gateway_cached_texts") == 2


def test_the_cache_is_bounded_and_forgets_what_was_not_used(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(limits=Limits(cached_texts=2))) as gateway:
        for text in ("a", "b", "a", "c", "a", "b"):
            gateway.post("/v1/embeddings", input=text)
        asked = [item for call in fake.requests("embed_text") for item in call.inputs[0].items()]
        assert asked == [b"a", b"b", b"c", b"b"]
        assert gateway.metric("tritonclip_gateway_cached_texts") == 2


def test_a_model_that_is_exchanged_gets_its_own_vectors(gateway: Gateway) -> None:
    answer = gateway.http.post("/v1/embeddings", json={"input": "a"})
    assert answer.headers["x-model-fingerprint"] == "fa4e0000"
    gateway.fake.manifest["fingerprint"] = "0ther"
    assert gateway.http.get("/health/ready").status_code == 200  # it asks the manifest anew
    answer = gateway.http.post("/v1/embeddings", json={"input": "a"})
    assert answer.headers["x-model-fingerprint"] == "0ther"
    assert len(gateway.fake.requests("embed_text")) == 1 + 1 + 1  # the probe's between them


def test_a_request_id_is_kept_or_made(gateway: Gateway) -> None:
    for given, kept in (("my-id:1", True), ("x" * 200, False), ("a b", False), ("", False)):
        answer = gateway.http.get("/v1/models", headers={"x-request-id": given})
        assert (answer.headers["x-request-id"] == given) is kept
        assert len(answer.headers["x-request-id"]) > 3


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_the_engine_has_its_answer(fake: FakeServer, code: str) -> None:
    expected = {
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
        "CANCELLED": 499,
        "UNIMPLEMENTED": 501,
        "INVALID_ARGUMENT": 400,
        "OUT_OF_RANGE": 400,
        "RESOURCE_EXHAUSTED": 400,
    }
    secret = "tritonserver at 10.0.0.5 in /srv/models"
    answer = translate(status_error(code, secret, "embed_image"))
    assert answer.status == expected.get(code, 502)
    assert answer.message == MESSAGES[answer.code]  # none of the engine's own words


def test_the_table_of_failures_is_whole() -> None:
    assert all(code in STATUSES for _, code in FAILURES)
    assert FAILURES[-1][0] is TritonClipError
    assert translate(ConnectError("grpc://x", "refused")).status == 503
    assert translate(ProtocolError("odd")).status == 502
    unforeseen = translate(ZeroDivisionError("secret"))
    assert (unforeseen.status, unforeseen.code) == (500, "internal_error")
    assert "secret" not in unforeseen.message
    assert translate(error := ApiError("overloaded", "full")) is error


def engine_that_fails(fake: FakeServer, error: TritonClipError) -> AsyncClient:
    class Failing(AsyncClient):
        async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
            raise error

        async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
            return Embeddings(await self._no_rows(texts), dict.fromkeys(range(len(list(texts))), error))

        async def _no_rows(self, texts: Sequence[str]) -> Any:
            return (await super().embed_texts(list(texts))).features

    return Failing(transport=fake.async_transport())


@pytest.mark.parametrize("item", ["a", RED_URL])
def test_an_overloaded_model_server_is_503_with_retry_after(fake: FakeServer, item: str) -> None:
    """After the client's own retries; however the client reports it, for a call or for each item of it."""
    error = status_error("UNAVAILABLE", "Exceeds maximum queue size", "embed_image")
    with gateway_over(fake, engine=engine_that_fails(fake, error)) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": item, "partial": True})
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 4
        assert answer.json()["error"]["code"] == "engine_unavailable"
        assert answer.json()["error"]["type"] == "server_error"
        assert gateway.metric('tritonclip_gateway_rejections_total{code="engine_unavailable"}') == 1


def test_retries_are_the_clients(fake: FakeServer) -> None:
    with gateway_over(fake) as gateway:
        gateway.post("/v1/embeddings", input="warm")
        fake.failures.append(status_error("UNAVAILABLE", "full", "embed_text"))
        assert gateway.http.post("/v1/embeddings", json={"input": "a"}).status_code == 200


def test_other_names_for_the_model(fake: FakeServer) -> None:
    labels = {"inputs": RED_URL, "parameters": {"candidate_labels": ["a", "b"]}}
    with gateway_over(fake, Settings(aliases={"nvidia/nvclip": None, "gpt 4 Ω": None, "fake": None})) as gateway:
        assert gateway.post("/v1/embeddings", input="a", model="nvidia/nvclip")["model"] == "fake"
        listed = gateway.http.get("/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["fake", "nvidia/nvclip", "gpt 4 Ω"]
        assert {model["root"] for model in listed} == {"fake"}
        for name in ("nvidia/nvclip", "nvidia%2Fnvclip", "gpt 4 Ω", "gpt%204%20%CE%A9", "fake"):
            found = gateway.http.get(f"/v1/models/{name}")
            assert (found.status_code, found.json()["root"]) == (200, "fake")
            assert found.json()["id"] == name.replace("%2F", "/").replace("%20", " ").replace("%CE%A9", "Ω")
            answer = gateway.http.post(f"/v1/models/{name}/zero-shot-image-classification", json=labels)
            assert len(answer.json()) == 2
        for name in ("nvidia", "nvclip", "nvidia/nvclip/x", "NVIDIA/NVCLIP"):
            assert gateway.http.get(f"/v1/models/{name}").json()["error"]["code"] == "model_not_found"
        path = "/v1/models/{model}/zero-shot-image-classification"
        assert gateway.metric(f'tritonclip_gateway_requests_total{{endpoint="{path}",status="200"}}') == 5


def test_any_name_may_be_the_model(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(aliases={"clip": None, "*": None})) as gateway:
        for name in ("fake", "clip", "text-embedding-3-small", "a/b/c", "*"):
            assert gateway.post("/v1/embeddings", input="a", model=name)["model"] == "fake"
            assert gateway.http.get(f"/v1/models/{name}").json()["id"] == name
        assert [model["id"] for model in gateway.http.get("/v1/models").json()["data"]] == ["fake", "clip"]


def test_an_unknown_name_is_told_how_it_would_be_served(gateway: Gateway) -> None:
    name = "nvidia/nv clip's"
    error = gateway.refused("/v1/embeddings", 404, input="a", model=name)
    assert error["code"] == "model_not_found"
    assert error["message"].startswith('model: there is no model "nvidia/nv clip\'s"; there is "fake"')
    assert f"--alias {shlex.quote(name)} " in error["message"]
    assert "--alias '*'" in error["message"]
    assert len(gateway.refused("/v1/embeddings", 404, input="a", model="x" * 1000)["message"]) < 400


def test_what_is_not_there(gateway: Gateway) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/embeddings", 405), ("PUT", "/", 405)):
        answer = gateway.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.headers["x-request-id"]


def test_metrics_by_endpoint_and_status(gateway: Gateway) -> None:
    gateway.post("/v1/embeddings", input=["a", RED_URL])
    gateway.refused("/v1/embeddings", 400, input=[])
    gateway.http.get("/somewhere/else")
    for labels, count in (
        ('endpoint="/v1/embeddings",status="200"', 1),
        ('endpoint="/v1/embeddings",status="400"', 1),
        ('endpoint="unknown",status="404"', 1),
    ):
        assert gateway.metric(f"tritonclip_gateway_requests_total{{{labels}}}") == count
    assert gateway.metric('tritonclip_gateway_request_seconds_count{endpoint="/v1/embeddings"}') == 2
    assert gateway.metric('tritonclip_gateway_items_total{kind="image"}') == 1
    assert gateway.metric('tritonclip_gateway_items_total{kind="text"}') == 1
    assert gateway.metric('tritonclip_gateway_rejections_total{code="missing_field"}') == 1
