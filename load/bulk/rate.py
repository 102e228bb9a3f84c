"""`python -m load.bulk rate`: images/s of a data set ÷ the server's own, of the same images in turn.

The server's own are those of `Client.embed_images`, which reads the images from memory and keeps nothing. CPU time of a
worker for an image says how many images a core of workers can feed to any number of servers.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load.bulk.tars import write_tar
from load.core.inputs import Spec, images
from load.core.machine import describe_machine, write_json
from load.core.turns import in_turn, ratio
from tritonclip import Client
from tritonclip.bulk import embed_dataset
from tritonclip_server.embedded.server import Ports, Server

RESULTS = Path("build/bulk-rate.json")
AIM = 0.9
DIFFERENT = 64  # images: a server has no cache of them, so the same ones may come again


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.bulk rate", description=__doc__)
    add = command.add_argument
    add("repository", nargs="?", type=Path, default=Path("build/models/demo"), help="served (default: %(default)s)")
    add("--images", type=int, default=4000, metavar="N", help="of a shard, 640x480 JPEGs (default: %(default)s)")
    add("--shards", type=int, default=4, metavar="N", help="(default: %(default)s)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = command.parse_args(arguments)
    server = Server(options.repository, Ports(0, 0, 0), log=Path("build/bulk-triton.log"))
    with server as served:
        found = measure(served, options.images, options.shards, options.rounds)
    for name, value in found.items():
        print(f"{name:28} {value}")
    value = found["dataset_over_embed"]["median"]
    print(f"data set ÷ embed: {value} (at least {AIM}: {'met' if value >= AIM else f'missed by {AIM - value:.3f}'})")
    write_json({"repository": options.repository.name, "machine": describe_machine(), **found}, RESULTS)
    return 0


def measure(server: Server, count: int, shards: int, rounds: int) -> dict[str, Any]:
    """Images/s by round of embedding from memory and of a data set, and a worker's CPU time for an image of each."""
    photos = images(Spec(count=DIFFERENT))
    total = count * shards
    cpu: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="tritonclip-bulk-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for shard in range(shards):
            write_tar(data / f"{shard:05}.tar", (photos[number % DIFFERENT] for number in range(count)))

        def embed(client: Client) -> int:
            return len(client.embed_images(photos[number % DIFFERENT] for number in range(total)))

        def dataset(client: Client) -> int:
            with TemporaryDirectory(dir=folder) as out:
                return embed_dataset(client, str(data), out).rows

        def rate(name: str, work: Callable[[Client], int]) -> float:
            with Client(server.grpc_url) as client:
                started, used = time.perf_counter(), time.process_time()
                if work(client) != total:
                    raise RuntimeError(f"{name}: not all of {total} images were embedded")
                cpu.setdefault(name, []).append(round(1000 * (time.process_time() - used) / total, 3))
                return total / (time.perf_counter() - started)

        with Client(server.grpc_url) as client:
            client.embed_images(photos)  # once outside the clock
        ways = {"embed": embed, "dataset": dataset}
        rates = asyncio.run(
            in_turn({name: partial(asyncio.to_thread, rate, name, work) for name, work in ways.items()}, rounds)
        )
    return {
        "images": total,
        "bytes_an_image": round(statistics.mean(map(len, photos))),
        "images_per_s": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "worker_cpu_ms": cpu,
        "dataset_over_embed": ratio(rates["dataset"], rates["embed"]),
    }
