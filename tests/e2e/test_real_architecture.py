"""The default variant's own architecture, with random weights, on the real server: what no download is needed for."""

from pathlib import Path

import numpy as np

from export.checkpoint import load_checkpoint
from export.pipeline import Request, export
from export.variants import default_variant
from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tests.serving import start
from tritonclip import Client


def test_it_is_open_clips_over_grpc_and_http(tmp_path: Path) -> None:
    export(Request(default_variant(), host="cpu", random=True), tmp_path / "served", report=lambda step: None)
    reference = load_checkpoint(default_variant(), random=True)
    images = image_features(reference, photographs())
    texts = ["a photo of a cat", "", "ein Foto einer Katze 🐈"]
    running = start(tmp_path / "served", tmp_path / "log")
    try:
        for url in (running.grpc_url, running.http_url):
            with Client(url) as client:
                assert client.manifest().random_weights
                assert cosines(client.embed_images(PHOTOS).features, images).min() >= 0.999
                assert cosines(client.embed_texts(texts).features, text_features(reference, texts)).min() >= 0.999
                scores = client.compare(PHOTOS, texts)
            np.testing.assert_allclose(scores.cosine, images @ text_features(reference, texts).T, atol=0.01)
    finally:
        running.stop()
