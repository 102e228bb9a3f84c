"""`python -m load.capacity.pipeline`: the cost of everything around the encoder, in CPU time an image.

    served repository ──its image encoder exchanged for one that costs next to nothing──> Triton <──gRPC── N clients
                                                           user + system time of each of its processes ÷ images

CPU time is what a machine that others share too tells truly: neighbours slow a request down, but hardly make it cost
more. Give several repositories, such as copies with other settings, and they are measured in turn in one run.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from load.capacity.compare import Meter, meter
from load.capacity.deployment import running
from load.capacity.repositories import edited
from load.capacity.rounds import in_turn, ratio
from load.capacity.workload import Closed, Work
from load.core.inputs import Spec
from load.core.machine import describe_machine
from tritonclip_server.embedded.server import Ports, Server
from tritonclip_server.export.manifest import file_digest, write_manifest
from tritonclip_server.export.pipeline import MODELS_FOLDER
from tritonclip_server.export.tracing import trace

RESULTS = Path("build/pipeline.json")
GRID = 8  # the free encoder looks at so many pixels a side: enough to tell pictures apart
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
        """pixels: uint8 [B, 3, S, S]. Returns fp32 [B, D] of length 1, others for other pictures."""
        seen = pixels[:, :, :: self.step, :: self.step].float() - 127.5
        return functional.normalize(seen.flatten(1) @ self.projection, dim=-1)


@dataclass
class Costs:
    """One repository's figures, round by round; `cpu_ms` is milliseconds an image by process."""

    server: Server
    measure: Meter
    images_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[dict[str, float]] = field(default_factory=list)

    async def __call__(self) -> float:
        """Measure once; CPU milliseconds an image, of all processes together."""
        before = cpu_seconds(self.server.pid)
        self.images_per_s.append(await self.measure())
        after = cpu_seconds(self.server.pid)
        images = self.measure.steps[-1].counters["image_preprocess"].items
        self.cpu_ms.append({name: 1000 * (after[name] - before[name]) / images for name in after})
        return sum(self.cpu_ms[-1].values())

    def to_json(self) -> dict[str, Any]:
        """Medians over the rounds, and what became of the requests."""
        return {
            "images_per_s": round(statistics.median(self.images_per_s), 1),
            "cpu_ms": round(statistics.median(sum(found.values()) for found in self.cpu_ms), 3),
            "cpu_ms_by_process": {
                name: round(median, 3)
                for name in self.cpu_ms[0]
                if (median := statistics.median(found[name] for found in self.cpu_ms)) >= 0.001
            },
            "mean_batch": {
                name: round(self.measure.mean_batch(name), 2) for name in ("image_preprocess", "image_encoder")
            },
            "outcomes": self.measure.outcomes(),
        }


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system time that Triton has used so far, and its Python processes, these by model."""
    triton = psutil.Process(pid)
    used = {"tritonserver": sum(triton.cpu_times()[:2])}
    for stub in triton.children():
        model = stub.cmdline()[-2].rsplit("_", 2)[0]  # such as image_encoder_0_1, the last argument but one
        used[model] = used.get(model, 0.0) + sum(stub.cpu_times()[:2])
    return used


@contextmanager
def with_free_encoder(repository: Path) -> Iterator[Path]:
    """A copy of a served repository with a FreeEncoder; it is removed at the end."""
    with edited(repository, {}) as copy:
        path = copy / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest.pop("probe", None)  # an answer of the encoder that is no longer there
        artifact = copy / "image_encoder" / "1" / "model.pt"
        for linked in (path, artifact):  # with the original's file
            linked.unlink()
        size = manifest["image_size"]
        trace(
            FreeEncoder(size, manifest["embedding_width"]),
            (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
            artifact,
        )
        manifest.setdefault("artifacts", {})["image_encoder/1/model.pt"] = file_digest(artifact)
        write_manifest(manifest, copy)
        yield copy


async def measure(
    repositories: Sequence[Path], work: Work, load: Closed, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """The costs of each repository, measured in turn; `ratio` is of CPU time, to the first one's, by round."""
    async with AsyncExitStack() as stack:
        costs = {}
        for number, repository in enumerate(repositories):
            server = stack.enter_context(
                Server(repository, Ports(0, 0, 0), log=Path(f"build/pipeline-triton-{number}.log"))
            )
            deployment = running(server.grpc_url, repository)
            costs[str(number)] = Costs(server, await stack.enter_async_context(meter(deployment, work, load, seconds)))
        found = await in_turn(costs, rounds, _say)
    return [cost.to_json() | {"ratio": ratio(found[name], found["0"]).to_json()} for name, cost in costs.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.capacity.pipeline", description=__doc__.splitlines()[0])
    command.add_argument(
        "repositories",
        nargs="*",
        type=Path,
        default=[MODELS_FOLDER / "demo"],
        help="served repositories (default: demo)",
    )
    command.add_argument("--keep-encoder", action="store_true", help="measure with the repository's own encoder")
    command.add_argument("--clients", type=int, default=32, help="requests under way (default: %(default)s)")
    command.add_argument("--images-per-request", type=int, default=1, help="(default: %(default)s)")
    command.add_argument("--size", type=int, nargs=2, default=(320, 240), help="of the JPEGs (default: 320 240)")
    command.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    command.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = command.parse_args(arguments)
    work = Work(per_request=options.images_per_request, spec=Spec(*options.size))
    RESULTS.parent.mkdir(exist_ok=True)
    with ExitStack() as copies:
        served = [
            repository if options.keep_encoder else copies.enter_context(with_free_encoder(repository))
            for repository in options.repositories
        ]
        found = asyncio.run(measure(served, work, Closed(options.clients), options.rounds, options.seconds))
    results = {
        "repositories": dict(zip(map(str, options.repositories), found, strict=True)),
        "encoder": "the repository's" if options.keep_encoder else "free",
        "clients": options.clients,
        "images_per_request": options.images_per_request,
        "jpeg_size": list(options.size),
        "machine": describe_machine(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results)
    return 0


def _print(results: dict[str, Any]) -> None:
    for name, found in results["repositories"].items():
        print(f"{name}: {found['cpu_ms']} ms of CPU time an image, {found['ratio']['median']} of the first")
        print(f"    by process: {found['cpu_ms_by_process']}")
        print(f"    {found['images_per_s']} images/s; mean batch {found['mean_batch']}; {found['outcomes']}")
    print(f"written to {RESULTS}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
