"""What labels cost: a stored label set against prompts sent with each request, and its growth with their number.

The heads are directions drawn at random in place of encoded labels: their values do not change the cost, and encoding
ten thousand labels on a CPU would take hours.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from load.capacity.measure import interleaved
from tritonclip import Client
from tritonclip_server.export.label_sets import add_label_set
from tritonclip_server.export.label_sources import Prompts

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

    def classify(size: int) -> Callable[[int], object]:
        return lambda _number: client.classify(image, label_set=f"{PREFIX}{size}", top_k=5)

    embed_ms, *sizes_ms = interleaved((lambda _number: client.embed_images(image), *map(classify, SIZES)), calls)
    by_size = dict(zip(SIZES, sizes_ms, strict=True))
    prompts = [f"a photo of a {name}" for name in _names(STORED)]
    # The warm-up puts their features into the server's response cache: what is timed is their best case.
    (prompts_ms,) = interleaved((lambda _number: client.compare(image, prompts),), max(3, calls // 10))
    medians = {size: statistics.median(taken) for size, taken in by_size.items()}
    ratios = {
        size: statistics.median(c / e for c, e in zip(taken, embed_ms, strict=True)) for size, taken in by_size.items()
    }
    return {
        "embed_ms": round(statistics.median(embed_ms), 2),
        "label_set_ms": {size: round(median, 2) for size, median in medians.items()},
        "label_set_cost_ratio": {size: round(ratio, 4) for size, ratio in ratios.items()},
        "label_set_cost_ratio_1000": round(ratios[STORED], 4),
        "label_set_images_per_s_1000": round(1000 / medians[STORED], 2),
        "prompts_images_per_s_1000": round(1000 / statistics.median(prompts_ms), 2),
    }


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"label number {number}" for number in range(count))
