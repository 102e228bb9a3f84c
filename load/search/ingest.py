"""`python -m load.search ingest`: images/s into an index ÷ the server's own, of the same files in turn.

The server's own are those of `Client.embed_images`, which sends the same requests as many at a time and keeps nothing.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load.core.inputs import Spec, images
from load.core.machine import describe_machine, write_json
from load.core.turns import in_turn, ratio
from tritonclip import Client
from tritonclip.search import Index
from tritonclip_server.embedded.server import Ports, Server

RESULTS = Path("build/search-ingest.json")
AIM = 0.95
DIFFERENT = 64  # images: a server has no cache of them, so the same ones may come again


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.search ingest", description=__doc__)
    add = command.add_argument
    add("repository", nargs="?", type=Path, default=Path("build/models/demo"), help="served (default: %(default)s)")
    add("--images", type=int, default=5000, metavar="N", help="640x480 JPEGs (default: %(default)s)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = command.parse_args(arguments)
    server = Server(options.repository, Ports(0, 0, 0), log=Path("build/search-triton.log"))
    with _photos(options.images) as photos, server as served:
        found = measure(served.grpc_url, photos, options.rounds)
    for name, value in found.items():
        print(f"{name:28} {value}")
    for name in ("add", "add_without_thumbnails"):
        value = found[f"{name}_over_embed"]["median"]
        print(f"{name} ÷ embed: {value} (at least {AIM}: {'met' if value >= AIM else f'missed by {AIM - value:.3f}'})")
    write_json({"repository": options.repository.name, "machine": describe_machine(), **found}, RESULTS)
    return 0


@contextmanager
def _photos(count: int) -> Iterator[list[Path]]:
    with TemporaryDirectory(prefix="tritonclip-photos-") as folder:
        contents = images(Spec(count=min(count, DIFFERENT)))
        paths = [Path(folder) / f"{number:06}.jpg" for number in range(count)]
        for number, path in enumerate(paths):
            path.write_bytes(contents[number % len(contents)])
        yield paths


def measure(url: str, photos: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Images/s by round of embedding alone, and of adding with thumbnails and without."""

    def rate(work: Callable[[Client], object]) -> float:
        with Client(url) as client:
            started = time.perf_counter()
            work(client)
            return len(photos) / (time.perf_counter() - started)

    def add(client: Client, *, thumbnails: bool) -> None:
        with TemporaryDirectory() as folder, Index.create(f"{folder}/i", client, thumbnails=thumbnails) as index:
            report = index.add(photos)
        if report.added != len(photos):
            raise RuntimeError(f"of {len(photos)} images were added: {report}")

    ways: dict[str, Callable[[Client], object]] = {
        "embed": lambda client: client.embed_images(photos),
        "add": partial(add, thumbnails=True),
        "add_without_thumbnails": partial(add, thumbnails=False),
    }
    rate(ways["embed"])  # once outside the clock
    rates = asyncio.run(in_turn({name: partial(asyncio.to_thread, rate, way) for name, way in ways.items()}, rounds))
    return {
        "images": len(photos),
        "images_per_s": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        **{f"{name}_over_embed": ratio(rates[name], rates["embed"]) for name in list(ways)[1:]},
    }
