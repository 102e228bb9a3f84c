"""Ready means that the answers are right, not only that there are answers."""

import base64
from typing import Any

import numpy as np
import pytest

from tests.images import RED, base64_of
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip import AsyncClient
from tritonclip.protocol import status_error
from tritonclip.testing import FakeServer, features_of
from tritonclip_server.gateway.inference.readiness import Readiness
from tritonclip_server.gateway.metrics import Metrics


def packed(features: Any) -> str:
    return base64.b64encode(np.asarray(features, "<f2").tobytes()).decode()


def probe(**changes: str) -> dict[str, Any]:
    right = {
        "image": base64_of(RED),
        "text": "a red square",
        "image_features": packed(features_of(RED, 16)),
        "text_features": packed(features_of(b"a red square", 16)),
    }
    return {"probe": right | changes}


def test_right_answers_are_ready() -> None:
    with gateway_over(FakeServer(manifest=probe())) as gateway:
        answer = gateway.http.get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize("noun", ["image", "text"])
def test_a_server_that_answers_nonsense_is_not_ready(noun: str) -> None:
    wrong = packed(features_of(b"something else", 16))
    with gateway_over(FakeServer(manifest=probe(**{f"{noun}_features": wrong}))) as gateway:
        answer = gateway.http.get("/health/ready")
        assert answer.status_code == 503
        assert f"the {noun} vector is wrong" in answer.json()["detail"]
        assert gateway.http.get("/health/live").status_code == 200


def test_an_older_manifest_has_no_probe(gateway: Gateway) -> None:
    assert "probe" not in gateway.fake.manifest
    assert gateway.http.get("/health/ready").status_code == 200
    assert len(gateway.fake.requests("embed_image")) == len(gateway.fake.requests("embed_text")) == 1


def test_without_a_probe_vectors_must_still_be_vectors() -> None:
    class Zeros(AsyncClient):
        async def embed_texts(self, texts: Any, **options: Any) -> Any:
            embeddings = await super().embed_texts(texts, **options)
            embeddings.features[:] = 0
            return embeddings

    fake = FakeServer()
    with gateway_over(fake, engine=Zeros(transport=fake.async_transport())) as gateway:
        answer = gateway.http.get("/health/ready")
        assert answer.status_code == 503
        assert "text vector has length 0.000" in answer.json()["detail"]


def test_a_verdict_serves_all_who_ask_soon_after() -> None:
    fake = FakeServer(manifest=probe())
    with gateway_over(fake) as gateway:
        now = 0.0
        service = gateway.http.app.state.models.default(None)  # type: ignore[attr-defined]
        service.readiness = Readiness(service.model, Metrics(), clock=lambda: now)
        for _ in range(20):
            assert gateway.http.get("/health/ready").status_code == 200
        assert len(fake.requests("embed_image")) == 1
        fake.manifest |= probe(text_features=packed(features_of(b"x", 16)))
        now = 6.0
        assert gateway.http.get("/health/ready").status_code == 503


def test_a_server_that_is_away_is_not_ready() -> None:
    def away(call: Any) -> None:
        raise status_error("NOT_FOUND", "no such model at 10.0.0.5", "manifest")

    with gateway_over(FakeServer(before=away)) as gateway:
        answer = gateway.http.get("/health/ready")
        assert answer.status_code == 503
        assert "10.0.0.5" not in answer.text
        assert gateway.http.get("/health/live").status_code == 200
        assert gateway.http.get("/").status_code == 200
