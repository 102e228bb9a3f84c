"""`python -m load.capacity compare A B …`: served repositories in turn: images/s, and CPU time by process.

    repositories ──> a Triton each, all up ──rounds in turn──> rate and CPU time an image, and their ratios to the first

CPU time is what a machine that others share too tells truly: neighbours slow a request down, but hardly make it cost
more. A copy of the first repository says what noise does: a setting is better where even its worst round lies above.
`--free-encoder` exchanges each image encoder for one that costs next to nothing: what is left is the pipeline.
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from load.capacity.deployment import embedded, linked_copy
from load.capacity.meter import Meter, open_meter
from load.capacity.workload import Load, Workload, pixels
from load.core.inputs import Spec
from load.core.machine import describe_machine, write_json
from load.core.turns import in_turn, ratio
from tritonclip_server.export.tracing import trace
from tritonclip_server.repository.manifest import file_digest, write_manifest

RESULTS = Path("build/compare.json")
GRID = 8  # the free encoder looks at so many pixels a side: enough to tell images apart
SEED = 20


class FreeEncoder(nn.Module):
    """Stands in for an image encoder: one small product, so that what is measured is the pipeline."""

    projection: Tensor

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.step = image_size // GRID
        seen = len(range(0, image_size, self.step)) ** 2 * 3
        generator = torch.Generator().manual_seed(SEED)
        self.register_buffer("projection", torch.randn(seen, width, generator=generator))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 [B, 3, S, S]. Returns fp32 [B, D] of length 1, others for other images."""
        seen = pixels[:, :, :: self.step, :: self.step].float() - 127.5
        return functional.normalize(seen.flatten(1) @ self.projection, dim=-1)


@contextmanager
def with_free_encoder(repository: Path) -> Iterator[Path]:
    """A copy of a served repository with the free encoder; its probe is left out, since it knows nothing."""
    with linked_copy(repository) as copy:
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        manifest = {key: value for key, value in manifest.items() if key != "probe"}
        artifact = copy / "image_encoder" / "1" / "model.pt"
        artifact.unlink()  # a link to the original, which writing through would change
        (copy / "manifest.json").unlink()
        size = manifest["image_size"]
        images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        trace(FreeEncoder(size, manifest["embedding_width"]), (images,), artifact)
        manifest.setdefault("artifacts", {})["image_encoder/1/model.pt"] = file_digest(artifact)
        write_manifest(manifest, copy)
        yield copy


@dataclass
class Costs:
    """One repository's figures, round by round; `cpu_ms` is milliseconds an image by process."""

    pid: int
    measure: Meter
    images_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[dict[str, float]] = field(default_factory=list)

    async def __call__(self) -> float:
        """Measure once; CPU milliseconds an image, of all processes together."""
        before = cpu_seconds(self.pid)
        self.images_per_s.append(await self.measure())
        after = cpu_seconds(self.pid)
        images = self.measure.steps[-1].counters["image_preprocess"].items
        self.cpu_ms.append({name: 1000 * (after[name] - before[name]) / images for name in after})
        return sum(self.cpu_ms[-1].values())

    def to_json(self, first: "Costs") -> dict[str, Any]:
        """Medians over the rounds, and what became of the requests; ratios to the first repository's, by round."""
        medians = {name: statistics.median(found[name] for found in self.cpu_ms) for name in self.cpu_ms[0]}
        return {
            "images_per_s": round(statistics.median(self.images_per_s), 1),
            "rate_ratio": ratio(self.images_per_s, first.images_per_s),
            "p95_ms": self.measure.latency_ms("p95"),
            "cpu_ms": round(statistics.median(self._totals()), 3),
            "cpu_ms_by_process": {name: round(median, 3) for name, median in medians.items() if median >= 0.001},
            "ratio": ratio(self._totals(), first._totals()),
            "mean_batch": {name: self.measure.mean_batch(name) for name in ("image_preprocess", "image_encoder")},
            "outcomes": self.measure.outcomes(),
        }

    def _totals(self) -> list[float]:
        return [sum(found.values()) for found in self.cpu_ms]


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system time that Triton has used so far, and its Python processes, these by model."""
    triton = psutil.Process(pid)
    used = {"tritonserver": sum(triton.cpu_times()[:2])}
    for stub in triton.children():
        model = stub.cmdline()[-2].rsplit("_", 2)[0]  # such as image_encoder_0_1, the last argument but one
        used[model] = used.get(model, 0.0) + sum(stub.cpu_times()[:2])
    return used


async def measure(
    repositories: Sequence[Path], workload: Workload, load: Load, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """The costs of each repository, measured in turn."""
    async with AsyncExitStack() as stack:
        costs = {}
        for number, repository in enumerate(repositories):
            served = stack.enter_context(embedded(repository, Path(f"build/compare-triton-{number}.log")))
            measured = await open_meter(stack, served, workload.questions, load, seconds)
            costs[str(number)] = Costs(served.pid, measured)
        await in_turn(costs, rounds)
    return [each.to_json(costs["0"]) for each in costs.values()]


def main(arguments: Sequence[str]) -> int:
    """Run the measurement; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.capacity compare", description=__doc__)
    add = command.add_argument
    add("repositories", nargs="+", type=Path, metavar="REPOSITORY", help="served repositories; one may come twice")
    add("--free-encoder", action="store_true", help="measure what is around the image encoder alone")
    add("--clients", type=int, default=32, help="requests under way (default: %(default)s)")
    add("--images-per-request", type=int, default=1, help="(default: %(default)s)")
    add("--size", type=pixels, default="320x240", metavar="WxH", help="of the JPEGs (default: %(default)s)")
    add("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    add("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = command.parse_args(arguments)
    workload = Workload(per_request=options.images_per_request, spec=Spec(*options.size))
    RESULTS.parent.mkdir(exist_ok=True)
    with ExitStack() as copies:
        free = options.free_encoder
        served = [copies.enter_context(with_free_encoder(path)) if free else path for path in options.repositories]
        found = asyncio.run(measure(served, workload, Load(options.clients), options.rounds, options.seconds))
    repositories = [{"path": str(path), **each} for path, each in zip(options.repositories, found, strict=True)]
    results = {
        "repositories": repositories,
        "encoder": "free" if free else "the repository's",
        "clients": options.clients,
        "images_per_request": options.images_per_request,
        "jpeg_size": list(options.size),
        "machine": describe_machine(),
    }
    write_json(results, RESULTS)
    for each in repositories:
        print(*(f"{name:18} {value}" for name, value in each.items()), "", sep="\n")
    return 1 if any(each["outcomes"]["wrong"] or each["outcomes"]["hung"] for each in found) else 0
