"""Vectors do not depend on who else is being served: whatever the batch, each answer is its own request's."""

import copy
import io
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.reference import PHOTOS, cosines
from tests.waiting import wait_for
from tritonclip import Client
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.encoders import ImageEncoder, TextEncoder
from tritonclip_server.export.tracing import DTYPES, trace
from tritonclip_server.export.verification import sample_images

THREADS = 32
REQUESTS_EACH = 6


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """48 distinct crops of the photographs, of many sizes and formats."""
    draw = random.Random(4)
    encoded = []
    for number in range(48):
        photo = Image.open(PHOTOS[number % len(PHOTOS)]).convert("RGB")
        width, height = draw.randint(60, photo.width // 2), draw.randint(60, photo.height // 2)
        left, top = draw.randint(0, photo.width - width), draw.randint(0, photo.height - height)
        buffer = io.BytesIO()
        photo.crop((left, top, left + width, top + height)).save(buffer, ("JPEG", "PNG", "WEBP")[number % 3])
        encoded.append(buffer.getvalue())
    return encoded


def flood(client: Client, alone: np.ndarray[Any, Any], items: list[Any], method: str) -> list[float]:
    """From 32 threads, send random batches of 1 to 16 items; the cosine of every answer to its item's vector alone."""
    found: list[float] = []
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        try:
            for _ in range(REQUESTS_EACH):
                chosen = [draw.randrange(len(items)) for _ in range(draw.choice((1, 1, 2, 5, 16)))]
                features = getattr(client, method)([items[index] for index in chosen]).features
                found.extend(cosines(features, alone[chosen]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return found


def test_images_under_concurrency_are_the_images_alone(server: Server, images: list[bytes]) -> None:
    with Client(server.grpc_url, timeout=300) as client:
        first, _ = encoder_counts(client)
        alone = np.concatenate([client.embed_images([image]).features for image in images])
        # Answers could not be told apart if the images were alike: the closest two must differ by far more than 0.9999.
        others = alone @ alone.T - 2 * np.eye(len(alone))
        assert others.max() < 0.999
        wait_for(lambda: encoder_counts(client)[0] >= first + len(images))  # Triton counts what it has answered
        before = encoder_counts(client)
        found = flood(client, alone, images, "embed_images")
        wait_for(lambda: encoder_counts(client)[0] >= before[0] + len(found))
        items, batches = (after - start for after, start in zip(encoder_counts(client), before, strict=True))
    assert min(found) >= 0.9999
    assert len(found) == items
    assert items / batches > 2, "the requests were never batched, so this test showed nothing"


def test_texts_under_concurrency_are_the_texts_alone(server: Server) -> None:
    texts = [f"{'a photo of ' * (number % 9)}{number} things" for number in range(200)]
    with Client(server.grpc_url, timeout=300) as client:
        alone = np.concatenate([client.embed_texts([text]).features for text in texts])
        assert min(flood(client, alone, texts, "embed_texts")) >= 0.9999


def encoder_counts(client: Client) -> tuple[int, int]:
    models = client.status().statistics or ()
    encoder = next(model for model in models if model.name == "image_encoder")
    return encoder.inference_count, encoder.execution_count


LEAST_COSINE = {"fp32": 1 - 1e-6, "bf16": 0.9999}  # of an item alone to itself in a batch, as docs/evaluation.md says


def halves_are_multiplied_row_by_row() -> bool:
    """Whether this machine's products of bf16 matrices give a row the same bits whatever the number of rows."""
    generator = torch.Generator().manual_seed(3)
    for inner, outer in ((28, 84), (28, 28), (28, 112), (112, 28)):  # of the demonstration model's text tower
        rows = torch.randn(7 * 77, inner, generator=generator).bfloat16()
        weight, bias = (torch.randn(outer, *n, generator=generator).bfloat16() for n in ((inner,), ()))
        whole = torch.nn.functional.linear(rows, weight, bias)
        if not all(torch.equal(torch.nn.functional.linear(rows[:n], weight, bias), whole[:n]) for n in (77, 154, 231)):
            return False
    return True


@pytest.mark.parametrize("precision", LEAST_COSINE)
@torch.inference_mode()
def test_the_files_that_are_served_give_an_item_alone_what_they_give_it_in_a_batch(
    precision: str, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Beside longer and shorter texts; in bf16 the same bits, where the machine's own products keep them."""
    checkpoint, dtype = copy.deepcopy(demo_checkpoint), DTYPES[precision]
    texts = [" ".join(["a photo of a large red circle"] * (number % 5)) + f" {number}" for number in range(7)]
    settings, side = checkpoint.preprocessing, checkpoint.preprocessing.image_size
    pixels = [torch.from_numpy(np.array(image.resize((side, side)))).permute(2, 0, 1) for image in sample_images(4)]
    image_encoder = ImageEncoder(checkpoint.image_tower, settings.mean, settings.std, dtype)
    text_encoder = TextEncoder(checkpoint.model, dtype)
    for module, inputs in ((text_encoder, checkpoint.tokenizer(texts).int()), (image_encoder, torch.stack(pixels))):
        trace(module, (inputs[:2],), tmp_path / "model.pt")
        encoder: Any = torch.jit.freeze(torch.jit.load(tmp_path / "model.pt").eval())  # type: ignore[no-untyped-call]
        alone = torch.cat([encoder(inputs[index : index + 1]) for index in range(len(inputs))])
        for size in (2, 3, len(inputs)):
            together = torch.cat([encoder(part) for part in inputs.split(size)])
            assert cosines(together.numpy(), alone.numpy()).min() >= LEAST_COSINE[precision]
            if module is text_encoder and precision == "bf16" and halves_are_multiplied_row_by_row():
                assert torch.equal(together, alone), f"texts in batches of {size}"


def test_a_bad_image_in_a_dynamic_batch_costs_its_own_request_alone(server: Server, images: list[bytes]) -> None:
    """31 good requests and one bad one at the same moment, several times over."""
    with Client(server.grpc_url, timeout=300) as client:
        alone = np.concatenate([client.embed_images([image]).features for image in images[:31]])
        for _ in range(5):
            answers = at_once(client, [*images[:31], b"\xff\xd8\xff\xe0 broken"])
            assert isinstance(answers[31], Exception)
            assert cosines(np.concatenate(answers[:31]), alone).min() >= 0.9999


def at_once(client: Client, images: list[bytes]) -> list[Any]:
    """One request for each image, started together; features or the error, in order."""
    answers: list[Any] = [None] * len(images)
    barrier = threading.Barrier(len(images))

    def send(index: int) -> None:
        barrier.wait()
        try:
            answers[index] = client.embed_images([images[index]]).features
        except Exception as error:
            answers[index] = error

    threads = [threading.Thread(target=send, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_the_response_cache_answers_with_the_same_vector(server: Server, tmp_path: Path) -> None:
    with Client(server.grpc_url) as client:
        first = client.embed_texts(["a sentence for the cache"]).features
        hits = cache_hits(server)
        again = client.embed_texts(["a sentence for the cache"]).features
        wait_for(lambda: cache_hits(server) == hits + 1)
    np.testing.assert_array_equal(first, again)


def cache_hits(server: Server) -> int:
    import httpx

    statistics = httpx.get(f"{server.http_url}/v2/models/embed_text/stats", timeout=60).json()["model_stats"][0]
    return int(statistics["inference_stats"]["cache_hit"]["count"])
