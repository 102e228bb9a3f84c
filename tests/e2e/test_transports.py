"""One body over four transports: the served answers are open_clip's, and errors come typed."""

from typing import Any

import numpy as np
import pytest

from tests.clients import TRANSPORTS, connect
from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tritonclip import ConnectError, DeadlineExceededError, InputError, TritonClipError
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint

TEXTS = ["a photo of a cat", "A  cup of COFFEE &amp; cake", "", "naïve façade — 日本語 🐈", "one two three " * 60]


def test_image_features_are_open_clips(client: Any, reference: Checkpoint) -> None:
    expected = image_features(reference, photographs())
    served = client.embed_images(PHOTOS)
    assert served.features.shape == (len(PHOTOS), 64)
    assert served.features.dtype == np.float32
    assert not served.errors
    assert cosines(served.features, expected).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(served.features, axis=1), 1, atol=1e-5)


def test_text_features_are_open_clips(client: Any, reference: Checkpoint) -> None:
    served = client.embed_texts(TEXTS).features
    assert cosines(served, text_features(reference, TEXTS)).min() >= 0.99999


def test_scores_are_open_clips(client: Any, reference: Checkpoint) -> None:
    images, texts = image_features(reference, photographs()), text_features(reference, TEXTS)
    logits = reference.logit_scale * images @ texts.T
    scores = client.compare(PHOTOS, TEXTS)
    np.testing.assert_allclose(scores.cosine, images @ texts.T, atol=2e-3)
    np.testing.assert_allclose(scores.logits, logits, atol=0.2)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scores.probabilities, exponents / exponents.sum(axis=1, keepdims=True), atol=0.03)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1, atol=1e-5)


def test_more_than_one_request_can_hold(client: Any) -> None:
    """70 texts exceed the batch limit of 64, so embeddings and `similarity` do what `compare` does for fewer."""
    texts = [f"a photo of thing number {number}" for number in range(70)]
    scores = client.compare(PHOTOS[:2], texts)
    assert scores.cosine.shape == (2, 70)
    np.testing.assert_allclose(scores.cosine[:, :5], client.compare(PHOTOS[:2], texts[:5]).cosine, atol=1e-5)
    features = client.embed_texts(texts).features
    np.testing.assert_allclose(scores.cosine, client.embed_images(PHOTOS[:2]).features @ features.T, atol=1e-5)


def test_every_form_of_an_image_is_the_same_image(client: Any) -> None:
    photo = photographs()[0]
    with PHOTOS[0].open("rb") as file:
        forms = [PHOTOS[0], str(PHOTOS[0]), PHOTOS[0].read_bytes(), file, photo, np.asarray(photo)]
        features = client.embed_images(forms).features
    assert cosines(features, np.repeat(features[:1], len(forms), axis=0)).min() >= 0.99999


def test_classify_makes_the_prompts_and_sorts_by_score(client: Any, reference: Checkpoint) -> None:
    labels = ["cat", "rocket on its launch pad", "cup of coffee", "1"]
    predictions = client.classify(PHOTOS[:1], labels, template="a photo of a {}")[0]
    texts = text_features(reference, [f"a photo of a {label}" for label in labels])
    expected = dict(zip(labels, (image_features(reference, photographs()[:1]) @ texts.T)[0], strict=True))
    assert {prediction.label for prediction in predictions} == set(labels)
    for prediction in predictions:
        assert prediction.cosine == pytest.approx(expected[prediction.label], abs=2e-3)
    scores = [prediction.probability for prediction in predictions]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("other", ["rock &amp; roll", "ROCK  & roll", "rock & ro\u200bll", "rock \u0026 roll\x00"])
def test_labels_that_are_one_to_the_tokenizer(client: Any, reference: Checkpoint, other: str) -> None:
    tokens = reference.tokenizer(["rock & roll", other])
    if (tokens[0] == tokens[1]).all():
        with pytest.raises(InputError, match="label 2: the same as label 0"):
            client.classify(PHOTOS[:1], ["rock & roll", "jazz", other])
    else:
        assert len(client.classify(PHOTOS[:1], ["rock & roll", "jazz", other])[0]) == 3


def test_bad_items_cost_themselves_alone(client: Any) -> None:
    truncated = PHOTOS[1].read_bytes()[:5000]
    images: list[Any] = [*PHOTOS[:3], truncated, *PHOTOS[3:], b"no image at all", "/no/such/file.jpg"]
    served = client.embed_images(images, on_error="return")
    assert sorted(served.errors) == [3, 7, 8]
    good = [index for index in range(len(images)) if index not in served.errors]
    np.testing.assert_allclose(served.features[good], client.embed_images(PHOTOS).features, atol=1e-5)
    assert np.isnan(served.features[[3, 7, 8]]).all()
    assert "truncated" in str(served.errors[3])
    with pytest.raises(InputError) as caught:
        client.embed_images(images)
    assert caught.value.index == 3


def test_texts_that_are_too_long_are_refused_by_position(client: Any) -> None:
    with pytest.raises(InputError, match="40000") as caught:
        client.embed_texts(["fine", "x" * 70_000])
    assert caught.value.index == 1


def test_status_tells_what_is_deployed(client: Any, server: Server) -> None:
    client.embed_images(PHOTOS)
    status = client.status()
    assert status.ready
    assert status.server_version == "2.51.0"
    assert status.manifest.variant == "tiny-convnext-none"
    assert status.manifest.random_weights
    assert status.manifest.precision == "fp32"
    assert len(status.manifest.fingerprint) == 16
    encoder = next(model for model in status.statistics if model.name == "image_encoder")
    assert encoder.inference_count >= encoder.execution_count >= 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_deadline_is_an_error_of_its_own(transport: str, server: Server) -> None:
    client = connect(server, transport)
    client.embed_texts(["connected, so that what is late is the answer"])
    getattr(client, "_client", client)._session.timeout = 0.001  # no image is encoded in a millisecond
    with pytest.raises(DeadlineExceededError):
        client.embed_images(PHOTOS)
    client.close()


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:1", "http://127.0.0.1:1"])
def test_nobody_there(url: str) -> None:
    from tritonclip import Client

    with Client(url) as client, pytest.raises(ConnectError, match=r"127\.0\.0\.1:1") as caught:
        client.embed_texts(["hello"])
    assert isinstance(caught.value, TritonClipError)
