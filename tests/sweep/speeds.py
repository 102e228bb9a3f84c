"""Which model for which job: bare encoders of several architectures, each beside convnext_base_w in one process.

    python -m tests.sweep.speeds [ARCHITECTURE …] [--into FILE]

    architecture ──export at random weights──> served files ──a process of its own──> memory, then rounds in turn:
                                                              8 images, 16 captions, by it and by convnext_base_w

A caption has ten tokens. Where a text ends at its end token, the file computes 16 of them, else the whole context. On a
CPU; ratios are to be read, since the rates are those of the machine.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from load.core.machine import describe_machine, write_json
from tests.sweep.encoders import make_inputs
from tests.sweep.models import export_random

REFERENCE = "convnext_base_w"
ARCHITECTURES = (
    "MobileCLIP2-S0", "ViT-B-32", "RN50", "ViT-B-16", "ViT-B-16-SigLIP2-256", "MobileCLIP2-S4", "convnext_base_w_320",
    "convnext_large_d_320", "ViT-L-14", "PE-Core-L-14-336", "ViT-SO400M-16-SigLIP2-384", "ViT-H-14-378-quickgelu",
)  # fmt: skip
IMAGES, CAPTIONS = 8, 16  # of a batch
CAPTION_TOKENS = 10
ROUNDS = 5
RESULTS = Path("build/speeds.json")
Call = Callable[[], object]


def measure(folder: Path, reference: Path, rounds: int) -> dict[str, Any]:
    """What both encoders and a batch of each kind add to a process's memory; rates beside the reference's, in turn."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    before = _kibibytes("VmRSS")
    calls = load(folder)
    for call in calls.values():
        call()
    row: dict[str, Any] = {"memory_gib": round((_kibibytes("VmHWM") - before) / 2**20, 2)}
    beside = load(reference)
    for kind, count in (("images", IMAGES), ("captions", CAPTIONS)):
        beside[kind]()
        pairs = [(_seconds(calls[kind]), _seconds(beside[kind])) for _ in range(rounds)]
        row[f"{kind}_per_s"] = round(count / statistics.median(seconds for seconds, _ in pairs), 2)
        row[f"{kind}_ratio"] = round(statistics.median(theirs / mine for mine, theirs in pairs), 3)
    return row


def load(folder: Path) -> dict[str, Call]:
    """A batch through each encoder of a served repository."""
    return {"images": _call(folder / "image_encoder", IMAGES), "captions": _call(folder / "text_encoder", CAPTIONS)}


def _call(folder: Path, count: int) -> Call:
    model = torch.jit.load(str(folder / "1" / "model.pt")).eval()  # type: ignore[no-untyped-call]
    items = make_inputs(folder, dict(model.named_parameters()), count)
    if items.dtype == torch.int32:
        items = _shortened(items)

    def call() -> Tensor:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # as served
            features: Tensor = model(items)
            return features

    return call


def _shortened(tokens: Tensor) -> Tensor:
    """Texts of few tokens: the end token, which the inputs have last, stands earlier, and padding follows."""
    short = torch.zeros_like(tokens)
    short[:, : CAPTION_TOKENS - 1] = tokens[:, : CAPTION_TOKENS - 1]
    short[:, CAPTION_TOKENS - 1] = tokens[:, -1]
    return short


def _kibibytes(entry: str) -> int:
    """An entry of this process's status: VmRSS, what is resident now, or VmHWM, the most that was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def _seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of docs/models.md."""
    lines = [
        "| architecture | images/s, of convnext_base_w | captions/s, of convnext_base_w | files, GiB | memory, GiB |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row["images_ratio"], row["captions_ratio"], row["files_gib"], row["memory_gib"])
        lines.append(f"| {row['architecture']} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m tests.sweep.speeds", description=__doc__.splitlines()[0])
    command.add_argument("architectures", nargs="*", default=ARCHITECTURES, metavar="ARCHITECTURE")
    command.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="(default: %(default)s)")
    command.add_argument("--into", type=Path, default=RESULTS, metavar="FILE", help="(default: %(default)s)")
    options = command.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        export_random(REFERENCE, reference)
        for name in options.architectures:
            print(name, file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as other:
                served = Path(other) / "served"
                export_random(name, served)
                files = sum(path.stat().st_size for path in served.glob("*/1/model.pt"))
                # A process each: the memory of one says nothing of the next.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found = pool.submit(measure, served, reference, options.rounds).result()
            rows.append({"architecture": name, "files_gib": round(files / 2**30, 2)} | found)
            write_json({"machine": describe_machine(), "reference": REFERENCE, "architectures": rows}, options.into)
    print(to_markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
