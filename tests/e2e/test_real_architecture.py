"""The default variant's own architecture, with random weights, on the real server: what no download is needed for."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tests.serving import start
from tritonclip import Client
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import default_variant

pytestmark = pytest.mark.alone  # it measures

SIZES = (*range(1, 17), 32, 64)
MOST = 1.6  # times the best seconds an item of all batch sizes up to one's own
AGAIN = 4


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "served"
    export(Request(default_variant(), host="cpu", random=True), folder, report=lambda step: None)
    return folder


def test_it_is_open_clips_over_grpc_and_http(repository: Path, tmp_path: Path) -> None:
    reference = load_checkpoint(default_variant(), random=True)
    images = image_features(reference, photographs())
    texts = ["a photo of a cat", "", "ein Foto einer Katze 🐈"]
    running = start(repository, tmp_path / "log")
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


def cliffs(run: Callable[[int], object]) -> dict[int, float]:
    """Batch sizes at which an item costs more than MOST times the best of all up to it, with how many times.

    Each size has its turn in order, then small and large ones alternate. What seems too slow is tried again: whatever
    else the machine did passes, and a cliff does not.
    """
    best = dict.fromkeys(SIZES, float("inf"))

    def time_size(size: int) -> None:
        started = time.perf_counter()
        run(size)
        best[size] = min(best[size], (time.perf_counter() - started) / size)

    def found() -> dict[int, float]:
        least = itertools.accumulate(best.values(), min)
        return {n: best[n] / cost for n, cost in zip(SIZES, least, strict=True) if best[n] > MOST * cost}

    run(1)
    half = len(SIZES) // 2
    alternating = [size for pair in zip(SIZES[:half], reversed(SIZES[half:]), strict=True) for size in pair]
    for size in (*SIZES, *alternating):
        time_size(size)
    for _ in range(AGAIN):
        for size in found():
            time_size(size)
    return found()


@pytest.mark.parametrize("end", [8, 76], ids=["captions", "full texts"])
def test_no_batch_of_texts_costs_many_times_what_others_do(end: int, repository: Path) -> None:
    """The published file as the embedded server runs it: frozen, outside the optimised mode."""
    loaded = torch.jit.load(str(repository / "text_encoder" / "1" / "model.pt")).eval()  # type: ignore[no-untyped-call]
    encoder: Any = torch.jit.freeze(loaded)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 49_000, (max(SIZES), 77), generator=generator, dtype=torch.int32)
    tokens[:, end], tokens[:, end + 1 :] = 49_407, 0
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        assert cliffs(lambda size: encoder(tokens[:size])) == {}


def test_a_cliff_is_seen() -> None:
    cost = dict.fromkeys(SIZES, 0.002) | {7: 0.02}
    assert set(cliffs(lambda size: time.sleep(size * cost[size]))) == {7}
