"""`python -m tests.sweep.encoders REPOSITORY`: a repository's bare encoders, by batch size and way of loading.

    model.pt ──loaded in each way, a process each──> first calls of a batch size ──> its median call
                                                     (what a new size costs)         ("whole": inputs and features in
                                                                                      the host's memory; "device":
                                                                                      the input lies there already)

LibTorch runs the file as it was traced, the stand-in freezes it; both run it outside TorchScript's optimised mode,
since the configs say so. The other two ways show what that mode would do. A process each, because kernels that were
chosen or compiled once would spare the next way its first calls.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from load.core.machine import describe_machine
from tritonclip_server.repository.configs import read_config

ENCODERS = ("image_encoder", "text_encoder")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FIRST_CALLS = 3
LEAST_CALLS = 5
EMBEDDING = "token_embedding.weight"  # [vocabulary, width], at any depth of a graph that takes token ids
RESULTS = Path("build/encoders.json")


@dataclass(frozen=True)
class Way:
    """How a file is loaded and run."""

    frozen: bool
    optimised: bool


WAYS = {
    "libtorch": Way(frozen=False, optimised=False),  # as production serves it
    "stand-in": Way(frozen=True, optimised=False),  # as the embedded server does
    "libtorch, optimised": Way(frozen=False, optimised=True),
    "stand-in, optimised": Way(frozen=True, optimised=True),
}


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one batch size: its first calls one by one, then the medians of many."""

    batch: int
    first_ms: Sequence[float]
    whole_ms: float
    device_ms: float

    @property
    def items_per_s(self) -> float:
        """Of a loop that copies each batch there and its features back, as the baseline of `load.capacity` does."""
        return 1000 * self.batch / self.whole_ms


def time_encoder(folder: Path, way: Way, batches: Sequence[int], seconds: float) -> list[Timing]:
    """Load the encoder of a served repository on the GPU, where there is one, and time each batch size in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = torch.jit.load(str(folder / "1" / "model.pt"), map_location=device).eval()  # type: ignore[no-untyped-call]
    inputs = make_inputs(folder, dict(model.named_parameters()), max(batches))
    if way.frozen:  # in the optimised mode, as the stand-in: outside it freezing takes calls apart that it then needs
        model = torch.jit.freeze(model)
    with torch.inference_mode(), torch.jit.optimized_execution(way.optimised):  # type: ignore[attr-defined]
        return [_time_batch(model, inputs[:batch], device, seconds) for batch in batches]


def make_inputs(folder: Path, parameters: Mapping[str, Tensor], count: int) -> Tensor:
    """Random items of the shape that the encoder's config gives: pixels, or token ids of its vocabulary.

    Texts fill the context: the highest id, which ends those of CLIP's tokenizer, stands last.
    """
    dims = read_config(folder / "config.pbtxt").input[0].dims
    generator = torch.Generator().manual_seed(0)
    vocabulary = next((len(weight) for name, weight in parameters.items() if name.endswith(EMBEDDING)), None)
    if vocabulary is None:
        return torch.randint(0, 256, (count, *dims), generator=generator, dtype=torch.uint8)
    tokens = torch.randint(0, vocabulary - 1, (count, *dims), generator=generator, dtype=torch.int32)
    tokens[:, -1] = vocabulary - 1
    return tokens


def _time_batch(model: Callable[[Tensor], Tensor], items: Tensor, device: torch.device, seconds: float) -> Timing:
    there = items.to(device)

    def on_device() -> None:
        model(there)
        if device.type == "cuda":
            torch.cuda.synchronize()

    first = [_milliseconds(on_device) for _ in range(FIRST_CALLS)]
    whole = _median(lambda: model(items.to(device)).cpu(), seconds)
    return Timing(len(items), first, whole, _median(on_device, seconds))


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return round(1000 * (time.perf_counter() - started), 3)


def _median(call: Callable[[], object], seconds: float) -> float:
    """Milliseconds of one call among many, in a loop of at least so many seconds."""
    call()
    taken, started = list[float](), time.perf_counter()
    while time.perf_counter() - started < seconds or len(taken) < LEAST_CALLS:
        taken.append(_milliseconds(call))
    return round(statistics.median(taken), 3)


def measure(
    repository: Path, batches: Sequence[int], seconds: float, say: Callable[[str], None]
) -> dict[str, dict[str, list[Timing]]]:
    """Timings by encoder and way, one after the other."""
    context = get_context("forkserver")  # a child starts with torch imported, and with no CUDA context yet
    context.set_forkserver_preload(["torch"])
    found: dict[str, dict[str, list[Timing]]] = {}
    for encoder in ENCODERS:
        for name, way in WAYS.items():
            say(f"{encoder}: {name}")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                timings = pool.submit(time_encoder, repository / encoder, way, batches, seconds).result()
            found.setdefault(encoder, {})[name] = timings
    return found


def to_markdown(found: Mapping[str, Mapping[str, Sequence[Timing]]]) -> str:
    """A table for each encoder: a row for each batch size."""
    lines = []
    for encoder, by_way in found.items():
        lines += ["", f"`{encoder}`: first calls, then whole and device, ms a batch; items/s", ""]
        lines += [f"| batch | {' | '.join(by_way)} |", f"|{'---|' * (len(by_way) + 1)}"]
        for row in zip(*by_way.values(), strict=True):
            lines.append(f"| {row[0].batch} | {' | '.join(map(_cell, row))} |")
    return "\n".join(lines)


def _cell(timing: Timing) -> str:
    first = ", ".join(f"{ms:.0f}" for ms in timing.first_ms)
    return f"({first}) {timing.whole_ms:.2f}, {timing.device_ms:.2f}; {timing.items_per_s:.0f}/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m tests.sweep.encoders", description=__doc__.splitlines()[0])
    command.add_argument("repository", type=Path, help="a served repository")
    command.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="N", help="default: %(default)s")
    command.add_argument("--seconds", type=float, default=0.5, help="of each loop, two a size (default: %(default)s)")
    command.add_argument("--into", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    options = command.parse_args(arguments)
    found = measure(options.repository, options.batches, options.seconds, _say)
    results: dict[str, Any] = {
        "repository": options.repository.name,
        "machine": describe_machine(),
        "encoders": {
            encoder: {way: [asdict(timing) for timing in timings] for way, timings in by_way.items()}
            for encoder, by_way in found.items()
        },
    }
    options.into.parent.mkdir(parents=True, exist_ok=True)
    options.into.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(to_markdown(found))
    print(f"\nwritten to {options.into}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
