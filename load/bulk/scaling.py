"""Workers and servers in any numbers: the rate beside what the servers can give, and how often they refuse.

Each worker is a process that takes one shard after the other, as a Ray worker does, and asks one of the servers. The
servers are stubs of a fixed speed, so what is lost is lost by reading, sending, writing, waiting and taking turns.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load.bulk.stubs import Stubs, counts, serving
from load.bulk.tars import write_tar
from tritonclip import Client
from tritonclip.bulk import Job, Shard, embed_shard, open_dataset, paced_client

CONTENT = bytes(4096)  # of an image: a stub does not look at it


@dataclass(frozen=True)
class Setting:
    """So many workers before so many servers of one speed, and what they have to do."""

    workers: int
    servers: int
    images_per_s: float = 50.0  # of a server
    shards_per_worker: int = 3
    images_per_shard: int = 500


def measure(setting: Setting) -> dict[str, Any]:
    """Run one setting: images/s, its share of what the servers can give, and refusals for each answer."""
    stubs = Stubs(setting.servers, 1 / setting.images_per_s)
    with TemporaryDirectory(prefix="tritonclip-bulk-") as folder, serving(stubs) as (urls, connection, _):
        data = Path(folder) / "data"
        data.mkdir()
        for number in range(setting.workers * setting.shards_per_worker):
            write_tar(data / f"{number:05}.tar", repeat(CONTENT, setting.images_per_shard))
        with Client(urls[0]) as client:
            dataset = open_dataset(client, str(data), f"{folder}/out")
        spawn = get_context("spawn")
        turns = spawn.Queue()
        for url in islice(cycle(urls), setting.workers):
            turns.put(url)
        with ProcessPoolExecutor(setting.workers, spawn, _begin, (turns,)) as pool:
            list(pool.map(_ready, range(setting.workers), chunksize=1))
            started = time.perf_counter()
            rows = sum(pool.map(_embed, [(dataset.job, shard) for shard in dataset.missing]))
            seconds = time.perf_counter() - started
        answered, refused, _ = counts(connection)
    images = setting.workers * setting.shards_per_worker * setting.images_per_shard
    if rows != images:
        raise RuntimeError(f"of {images} images {rows} were embedded")
    capacity = setting.servers * setting.images_per_s
    return {
        "workers": setting.workers,
        "servers": setting.servers,
        "images_per_s": round(rows / seconds, 1),
        "of_capacity": round(rows / seconds / capacity, 3),
        "refused_per_answer": round(refused / answered, 3),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """A line for each setting."""
    lines = [
        "| workers | servers | images/s | of what the servers can give | refused for each answer |",
        "|---" * 5 + "|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(str(value) for value in each.values())} |" for each in found)])


_client: Client


def _begin(turns: "Queue[str]") -> None:
    """Give a worker its client; workers take the servers in turn."""
    global _client
    _client = paced_client(Client(turns.get(), timeout=600.0))


def _ready(_: int) -> None:
    _client.manifest()
    time.sleep(0.5)  # so that each worker gets one of these


def _embed(task: tuple[Job, Shard]) -> int:
    return embed_shard(_client, *task).rows
