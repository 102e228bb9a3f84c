"""The default variant's own architecture, with random weights, on the real server: what no download is needed for."""

import asyncio
import itertools
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from load.core.checks import Outcome
from load.core.generator import Generator, Result
from load.faults.background_load import all_protocols, ask_beside
from load.faults.overload import DECODED_SHARE, IMAGES, TIMES, WAITING_MS, worked_on
from load.faults.service import Service, serve
from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tests.serving import start
from tritonclip import Client
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import default_variant

pytestmark = pytest.mark.alone  # it measures

SIZES = (*range(1, 17), 32, 64)
# An image takes as long as ten captions: around a slice, and the ends. All sizes, in a few minutes:
# `python -m tests.sweep.encoders REPOSITORY --batches $(seq 16) 32 64`.
IMAGE_SIZES = (1, 2, 4, 7, 8, 9, 16, 64)
MOST = 1.6  # times the best seconds an item of all batch sizes up to one's own
AGAIN = 4
GOODPUT_SHARE = 0.6  # of the knee's; load.faults has the limit, over a longer time
FLOODS = 3  # at most


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


def cliffs(run: Callable[[int], object], sizes: Sequence[int] = SIZES) -> dict[int, float]:
    """Batch sizes at which an item costs more than MOST times the best of all up to it, with how many times.

    Each size has its turn in order, then small and large ones alternate. What seems too slow is tried again: whatever
    else the machine did passes, and a cliff does not.
    """
    best = dict.fromkeys(sizes, float("inf"))

    def time_size(size: int) -> None:
        started = time.perf_counter()
        run(size)
        best[size] = min(best[size], (time.perf_counter() - started) / size)

    def found() -> dict[int, float]:
        least = itertools.accumulate(best.values(), min)
        return {n: best[n] / cost for n, cost in zip(sizes, least, strict=True) if best[n] > MOST * cost}

    run(1)
    half = len(sizes) // 2
    alternating = [size for pair in zip(sizes[:half], reversed(sizes[half:]), strict=True) for size in pair]
    for size in (*sizes, *alternating):
        time_size(size)
    for _ in range(AGAIN):
        for size in found():
            time_size(size)
    return found()


def load(repository: Path, model: str) -> Any:
    """A published file as the stand-in loads it."""
    return torch.jit.freeze(torch.jit.load(str(repository / model / "1" / "model.pt")).eval())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("end", [8, 76], ids=["captions", "full texts"])
def test_no_batch_of_texts_costs_many_times_what_others_do(end: int, repository: Path) -> None:
    """The published file as the embedded server runs it: frozen, outside the optimised mode."""
    encoder = load(repository, "text_encoder")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 49_000, (max(SIZES), 77), generator=generator, dtype=torch.int32)
    tokens[:, end], tokens[:, end + 1 :] = 49_407, 0
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        assert cliffs(lambda size: encoder(tokens[:size])) == {}


def test_no_batch_of_images_costs_many_times_what_others_do(repository: Path) -> None:
    """Nor takes more memory an image from the system: its pages are cleared one by one, and that was the cliff."""
    encoder = load(repository, "image_encoder")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (max(IMAGE_SIZES), 3, 256, 256), generator=generator, dtype=torch.uint8)

    def pages(size: int) -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        encoder(pixels[:size])
        return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / size

    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        assert cliffs(lambda size: encoder(pixels[:size]), IMAGE_SIZES) == {}
        assert pages(64) <= 1.5 * pages(8) + 1000


def test_a_cliff_is_seen() -> None:
    cost = dict.fromkeys(SIZES, 0.002) | {7: 0.02}
    assert set(cliffs(lambda size: time.sleep(size * cost[size]))) == {7}


def rate(results: Iterable[Result]) -> float:
    """Images rightly answered per second from the first request to the last answer, of what ran at once."""
    runs = list(results)
    return sum(run.totals()[Outcome.ANSWERED] for run in runs) / max(run.wall_seconds for run in runs)


async def flood(service: Service, kind: str) -> tuple[float, dict[str, Result], float]:
    """Four times the knee's load over all protocols at once: the knee, what came of it, images decoded ÷ encoded."""
    async with all_protocols(service.urls, IMAGES[kind]) as protocols:
        knee = rate([await Generator(*protocols["grpc"]).closed_loop(16, 5.0, warm_up=0.0)])
        before = await worked_on(service)
        results = await ask_beside(protocols, 8.0, rate=TIMES * knee)
        decoded, encoded = (now - then for now, then in zip(await worked_on(service), before, strict=True))
    return knee, results, decoded / encoded


@pytest.mark.parametrize("kind", ["heavy", pytest.param("usual", marks=pytest.mark.long)])
def test_overload_costs_those_who_are_answered_little(kind: str, repository: Path) -> None:
    """Flooded again where that seems to cost much: what else the machine did passes."""
    with serve(repository) as service:
        for left in reversed(range(FLOODS)):
            try:
                check(kind, *asyncio.run(flood(service, kind)))
            except AssertionError as missed:
                if not left:
                    raise
                print(missed)
            else:
                return


def check(kind: str, knee: float, results: dict[str, Result], decoded: float) -> None:
    totals = {name: {o.value: n for o, n in result.totals().items() if n} for name, result in results.items()}
    share = rate(results.values()) / knee
    print(f"{kind}: knee {knee:.1f}/s, goodput {share:.2f} of it, decoded {decoded:.2f} of encoded, {totals}")
    assert {outcome for ended in totals.values() for outcome in ended} == {"answered", "refused"}
    assert decoded <= DECODED_SHARE, "what the encoder refuses has been decoded in vain"
    assert share >= GOODPUT_SHARE
    for name, result in results.items():
        answered, refused = result.latency_ms(), result.latency_ms(Outcome.REFUSED)
        if answered and refused:
            assert refused["p99"] - WAITING_MS.get(name, 0.0) <= answered["p50"], name
