"""A bare encoder: a served artifact in a plain loop, its inputs already in memory. What serving is measured against.

It runs in a process of its own, which sleeps while the server is measured.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
PROBE_SECONDS = 4.0


class BareEncoder:
    """A process that runs an encoder's artifact on copies of one item, at the batch size that suits it best.

    `item`: the encoder's input of one image or text, without the batch dimension.
    """

    def __init__(self, artifact: Path, item: Tensor) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, str(artifact), item.numpy()), daemon=True)
        self._process.start()

    def find_best_batch(self) -> dict[int, float]:
        """Items/s by batch size; the best one is used from here on."""
        rates = {size: self.items_per_s(PROBE_SECONDS, size) for size in BATCH_SIZES}
        self.batch_size = max(rates, key=lambda size: rates[size])
        return rates

    def items_per_s(self, seconds: float, batch_size: int | None = None) -> float:
        """The loop's throughput over at least so many seconds of whole batches."""
        self._pipe.send((batch_size or self.batch_size, seconds))
        return float(self._pipe.recv())

    def measure(self, seconds: float) -> Callable[[], Awaitable[float]]:
        """The same as a measurement to be made in turn."""
        return partial(asyncio.to_thread, self.items_per_s, seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def random_image(size: int) -> Tensor:
    """Pixels uint8 [3, size, size]."""
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8)


def _serve(pipe: Connection, artifact: str, item: NDArray[Any]) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch.jit.load(artifact, map_location=device).eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # as it is served
        while True:
            batch_size, seconds = pipe.recv()
            batch = torch.from_numpy(item).expand(batch_size, *item.shape).contiguous()
            model(batch.to(device)).cpu()  # once outside the clock
            started, batches = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                model(batch.to(device)).cpu()
                batches += 1
            pipe.send(batches * batch_size / (time.perf_counter() - started))
