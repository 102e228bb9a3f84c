"""What a service that passes requests on needs of the client: a deadline for each, token counts, a fresh manifest."""

from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Wire
from tritonclip import Client, ConfigError, Manifest, ProtocolError
from tritonclip.protocol.messages import Call, Reply
from tritonclip.testing import FakeServer, FakeTransport


def test_tokens_are_counted_over_every_transport(wire: Wire) -> None:
    assert wire.run(lambda client: client.count_tokens(["one", "", "three of them"]), batch_size=2) == [3, 2, 5]
    assert wire.run(lambda client: client.count_tokens([])) == []


class Timed(FakeTransport):
    """Remembers the timeout of each call."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__(server)
        self.timeouts: list[float] = []

    def send(self, call: Call, timeout: float) -> Reply:
        self.timeouts.append(timeout)
        return super().send(call, timeout)


def test_another_timeout_for_the_same_connections_and_knowledge(fake: FakeServer) -> None:
    transport = Timed(fake)
    with Client(transport=transport, timeout=60) as client:
        hurried = client.with_timeout(20)
        hurried.embed_texts(["a"])
        assert max(transport.timeouts) <= 20
        client.embed_texts(["a"])
        assert transport.timeouts[-1] > 50
        assert len(fake.requests("manifest")) == 1  # what the one learned, the other knows
        with pytest.raises(ConfigError):
            client.with_timeout(0)


def test_a_manifest_asked_for_anew(wire: Wire) -> None:
    async def twice_async(client: Any) -> list[Any]:
        first = await client.manifest()
        wire.fake.manifest["fingerprint"] = "another"
        kept, asked = await client.manifest(), await client.manifest(refresh=True)
        return [first.fingerprint, kept.fingerprint, asked.fingerprint, (await client.manifest()).fingerprint]

    def twice(client: Any) -> list[Any]:
        first = client.manifest()
        wire.fake.manifest["fingerprint"] = "another"
        kept, asked = client.manifest(), client.manifest(refresh=True)
        return [first.fingerprint, kept.fingerprint, asked.fingerprint, client.manifest().fingerprint]

    assert wire.run(twice_async if wire.is_async else twice) == ["fa4e0000", "fa4e0000", "another", "another"]


def test_a_sigmoid_of_any_logit_is_a_number() -> None:
    """SigLIP's least logits are below -130; float32 has no exp(130)."""
    manifest = Manifest.from_document({"logit_scale": 117.0, "logit_bias": -16.5})
    logits, probabilities = manifest.calibrate(np.array([[-1, 0, 0.05, 1]], np.float32))
    assert probabilities.dtype == np.float32
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-38)


@pytest.mark.parametrize("bias", [None, -3.0])
def test_calibration_is_the_servers(bias: float | None) -> None:
    fake = FakeServer(manifest={"logit_scale": 12.0, "logit_bias": bias})
    with Client(transport=fake.transport()) as client:
        scores = client.compare([b"a", b"b"], ["a", "b", "c"])
        logits, probabilities = client.manifest().calibrate(scores.cosine)
        np.testing.assert_allclose(logits, scores.logits, rtol=1e-5)
        np.testing.assert_allclose(probabilities, scores.probabilities, rtol=1e-5)
        assert client.manifest().cosine_of(float(logits[0, 1])) == pytest.approx(float(scores.cosine[0, 1]), abs=1e-6)


def test_without_a_scale_there_is_no_calibration() -> None:
    with pytest.raises(ProtocolError, match="logit_scale"):
        Manifest.from_document({}).calibrate(np.zeros((1, 1), np.float32))
