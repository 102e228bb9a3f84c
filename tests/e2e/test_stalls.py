"""No request lies in a queue while everything is idle, as Triton leaves it in front of a stage with one instance.

Pairs of requests, the second one a moment after the first, so that it finds the stage at work. Where Triton misses the
end of that work, the second one waits 500 ms longer than it need (docs/architecture.md, "Why every batched stage has
two instances").
"""

import itertools
import queue
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tritonclip_server.embedded.server import Server
from tritonclip_server.repository.configs import read_config

pytestmark = pytest.mark.alone

PAIRS = 100
STALL_SECONDS = 0.45  # Triton's wait is 0.5 s, and a pair takes 0.002 to 0.05 s
TOLERATED = 3  # of 100 pairs, on a machine that does other things too; one instance stalls 10 to 70 of them
AGAIN = 3  # where more stall: a machine that stands still passes, and one instance stalls as many again
GAPS_SECONDS = (0.0, 0.0005, 0.001, 0.002, 0.004)  # between the two requests of a pair, in turn

Tensor = NDArray[np.generic]
_numbers = itertools.count()


def texts(count: int) -> Tensor:
    """Never the same, so that no cache answers."""
    return np.array([[f"image {next(_numbers)}".encode()] for _ in range(count)], dtype=np.object_)


def tokens(count: int) -> Tensor:
    return np.zeros((count, 77), np.int32)


def images(count: int) -> Tensor:
    scene = Path("samples/scenes/red-triangle-15.jpg").read_bytes()
    return np.array([[scene]] * count, dtype=np.object_)


def pixels(count: int) -> Tensor:
    return np.zeros((count, 3, 64, 64), np.uint8)


ASKED: dict[str, tuple[str, Callable[[int], Tensor], int]] = {  # model: input, its values, items in a request
    "text_tokenize": ("text", texts, 16),
    "text_encoder": ("tokens", tokens, 16),
    "embed_text": ("text", texts, 1),
    "image_preprocess": ("image", images, 2),
    "image_encoder": ("pixels", pixels, 2),
    "embed_image": ("image", images, 1),
    "classify_scenes": ("image", images, 1),
}


def seconds_of_pair(client: InferenceServerClient, model: str, gap: float) -> float:
    """How long the slower of two requests takes."""
    name, values, count = ASKED[model]
    done: queue.Queue[tuple[float, InferenceServerException | None]] = queue.Queue()
    for number in range(2):
        tensor = values(count)
        sent = InferInput(name, list(tensor.shape), np_to_triton_dtype(tensor.dtype))
        sent.set_data_from_numpy(tensor)
        started = time.monotonic()

        def finish(
            result: InferResult | None, error: InferenceServerException | None, started: float = started
        ) -> None:
            done.put((time.monotonic() - started, error))

        client.async_infer(model, [sent], finish)
        if number == 0:
            time.sleep(gap)
    ends = [done.get(timeout=60) for _ in range(2)]
    assert not [error for _, error in ends if error is not None]
    return max(seconds for seconds, _ in ends)


@pytest.mark.parametrize("model", ASKED)
def test_pairs_of_requests_do_not_stall(demo_server: Server, model: str) -> None:
    with InferenceServerClient(demo_server.grpc_url.removeprefix("grpc://")) as client:
        for _ in range(AGAIN):
            gaps = itertools.islice(itertools.cycle(GAPS_SECONDS), PAIRS)
            took = [seconds_of_pair(client, model, gap) for gap in gaps]
            stalls = [round(seconds, 3) for seconds in took if seconds > STALL_SECONDS]
            if len(stalls) <= TOLERATED:
                break
    assert len(stalls) <= TOLERATED, f"{len(stalls)} of {PAIRS} pairs stalled; median {np.median(took):.4f} s"


def test_every_stage_with_a_batcher_is_asked(demo_repository: Path) -> None:
    configs = [read_config(path) for path in demo_repository.glob("*/config.pbtxt")]
    batched = {config.name for config in configs if config.HasField("dynamic_batching")}
    assert batched
    assert batched <= ASKED.keys()
