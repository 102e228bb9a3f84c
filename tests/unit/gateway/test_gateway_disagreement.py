"""Servers behind one name that serve different models, or whose manifest makes no sense: nothing wrong is answered."""

import logging
from collections.abc import Iterator

import pytest

from tests.unit.client.wire_servers import serve_grpc
from tests.unit.gateway.conftest import Gateway, gateway_over
from tests.waiting import wait_for
from tritonclip import AsyncClient, ProtocolError
from tritonclip.protocol import Call, InferRequest, _balancing
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.inference import served_model

WORDS = "the servers of one URL serve different models"


def differ(call: Call) -> None:
    if isinstance(call, InferRequest) and call.model == "manifest":
        raise ProtocolError(WORDS)


def test_two_real_servers_that_differ(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a server says later than that counts for nothing until the manifest is read anew.
    monkeypatch.setattr(_balancing, "PROBE_SECONDS", 30.0)
    other = FakeServer(label_sets={"scenes": ["a"]})
    other.manifest["fingerprint"] = "0123456789abcdef"
    with serve_grpc(fake) as (one, _), serve_grpc(other) as (two, _):
        engine = AsyncClient(f"{one},{two.partition('://')[2]}")
        with gateway_over(fake, engine=engine) as running:
            answer = running.http.post("/v1/embeddings", json={"input": "a cat"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
            assert "0123456789abcdef" not in answer.text, "what lies behind the gateway is its operator's"
            assert running.http.get("/health/ready").status_code == 503
    assert not fake.requests("embed_text")
    assert not other.requests("embed_text")


@pytest.fixture
def gateway(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(served_model, "REFRESH_SECONDS", 0.02)
    with gateway_over(fake) as running:
        yield running


def test_nothing_is_answered_until_they_serve_one(
    gateway: Gateway, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def answers(text: str) -> tuple[int, str | None]:
        found = gateway.http.post("/v1/embeddings", json={"input": text})
        return found.status_code, found.json().get("error", {}).get("code")

    assert answers("a cat") == (200, None)
    with caplog.at_level(logging.ERROR, "gateway"):
        fake.before = differ
        wait_for(lambda: answers("a cat") == (502, "engine_failed"))  # though its vector is in the cache
        count = len(fake.requests("manifest"))
        wait_for(lambda: len(fake.requests("manifest")) > count + 5)
        said = [record.getMessage() for record in caplog.records if record.name == "gateway"]
        assert said == [f"nothing is answered: {WORDS}"]
        assert not fake.requests("embed_text")[1:]
    fake.before = None
    wait_for(lambda: answers("a dog") == (200, None))
