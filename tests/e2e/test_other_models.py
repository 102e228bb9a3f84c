"""Models beside the default family, from export to answers: a ViT, and one with a bias and a shorter context."""

from pathlib import Path

import numpy as np
import pytest

from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tests.serving import publish, start
from tritonclip import Client
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.variants import Variant

TEXTS = ["a photo of a cat", "", "many words " * 50]


@pytest.mark.parametrize("architecture", ["ViT-S-32-alt", "tiny-vit-bias"])
def test_its_answers_are_open_clips(architecture: str, tmp_path: Path) -> None:
    running = start(publish(architecture, tmp_path / "served"), tmp_path / "log")
    try:
        with Client(running.grpc_url) as client:
            served_images, served_texts = client.embed_images(PHOTOS).features, client.embed_texts(TEXTS).features
            scores = client.compare(PHOTOS, TEXTS)
            width = client.manifest().embedding_width
    finally:
        running.stop()
    checkpoint = load_checkpoint(Variant(architecture, "none"), random=True)
    images, texts = image_features(checkpoint, photographs()), text_features(checkpoint, TEXTS)
    assert served_images.shape == (len(PHOTOS), width)
    assert cosines(served_images, images).min() >= 0.9999
    assert cosines(served_texts, texts).min() >= 0.99999
    logits = checkpoint.logit_scale * images @ texts.T + (checkpoint.logit_bias or 0)
    np.testing.assert_allclose(scores.logits, logits, atol=0.2)
    if checkpoint.logit_bias is None:
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(scores.probabilities, expected, atol=0.03)
