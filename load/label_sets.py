"""What labels cost: a stored label set against prompts sent with each request, and its growth with their number.

The heads are directions drawn at random in place of encoded labels: their values do not change the cost, and encoding
ten thousand labels on a CPU would take hours.
"""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from export.label_sets import add_label_set
from export.label_sources import Prompts
from tritonclip import Client

SIZES = (10, 100, 1000, 10_000)
STORED = 1000  # the size that is compared with prompts, and with embedding alone
PREFIX = "bench-"


def publish_random_heads(repository: Path, width: int) -> None:
    """Add label sets `bench-10`, `bench-100`, … to a served repository."""
    generator = torch.Generator().manual_seed(5)
    for size in SIZES:
        vectors = functional.normalize(torch.randn(size, width, generator=generator))
        add_label_set(repository, f"{PREFIX}{size}", Prompts(_names(size), ("{}",)), vectors)


def measure_label_sets(client: Client, image: bytes, calls: int) -> dict[str, Any]:
    """Milliseconds of one image's request, each way, interleaved call by call so that the machine's drift cancels.

    `label_set_cost_ratio_1000` is the median, over the calls, of classify with 1000 stored labels ÷ embedding alone.
    """

    def classify(size: int) -> Callable[[], object]:
        return lambda: client.classify(image, label_set=f"{PREFIX}{size}", top_k=5)

    ways = {"embed": lambda: client.embed_images(image)} | {str(size): classify(size) for size in SIZES}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(calls + 2):
        random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
        for name in order:
            milliseconds = _timed(ways[name])
            if number >= 2:  # the first two warm up
                taken[name].append(milliseconds)
    prompts = [f"a photo of a {name}" for name in _names(STORED)]
    client.compare(image, prompts)  # from here on the server's response cache knows them: their best case
    with_prompts = statistics.median(_timed(lambda: client.compare(image, prompts)) for _ in range(max(3, calls // 10)))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    ratios = {
        size: statistics.median(c / e for c, e in zip(taken[str(size)], taken["embed"], strict=True)) for size in SIZES
    }
    return {
        "embed_ms": round(medians["embed"], 2),
        "label_set_ms": {size: round(medians[str(size)], 2) for size in SIZES},
        "label_set_cost_ratio": {size: round(ratio, 4) for size, ratio in ratios.items()},
        "label_set_cost_ratio_1000": round(ratios[STORED], 4),
        "label_set_images_per_s_1000": round(1000 / medians[str(STORED)], 2),
        "prompts_images_per_s_1000": round(1000 / with_prompts, 2),
    }


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"label number {number}" for number in range(count))
