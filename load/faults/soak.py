"""`python -m load.faults.soak --minutes 30`: a long time at 70 % of what the service carries. Does anything grow?

Requests arrive at random over all protocols, every answer is checked. Resident memory, descriptors and shared memory of
Triton's processes and the gateway are sampled every 10 s (or 60 times in all, where that is more often), and the p99
of the answers in between. `load.faults.trends` says what growth is. Writes JSON, CSV and a chart; exits with 1 where
anything grew, was wrong, failed or hung.
"""

import argparse
import asyncio
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from load.core.checks import Outcome
from load.core.generator import Generator, Result, together
from load.core.inputs import Spec
from load.core.machine import describe_machine
from load.faults.background_load import all_protocols, ask_beside
from load.faults.overload import find_rate
from load.faults.service import Service
from load.faults.trends import Tolerance, Trend, judge

REPOSITORY = Path("build/models/demo")
RESULTS = Path("build/soak")
IMAGES = Spec(count=32)
SHARE = 0.7
KNEE_SECONDS = 5.0
FILL_SECONDS = 5.0
FILL_CLIENTS = 128  # over each protocol
SAMPLE_SECONDS = 10.0
LEAST_SAMPLES = 60
P99 = "p99_ms"
TOLERANCES = {
    "triton_mib": Tolerance(16.0, 0.01),
    "gateway_mib": Tolerance(8.0, 0.05),
    "shm_mib": Tolerance(2.0),
    "triton_descriptors": Tolerance(4.0),
    "gateway_descriptors": Tolerance(4.0),
    "triton_threads": Tolerance(4.0),
    "gateway_threads": Tolerance(4.0),
    P99: Tolerance(20.0, 0.5),
}
NEVER = (Outcome.WRONG, Outcome.HUNG, Outcome.FAILED, Outcome.LOST)


@dataclass(frozen=True)
class Soak:
    """A run: a value of each series for each moment (seconds from the start), and all requests by their end."""

    rate: float
    moments: Sequence[float]
    series: Mapping[str, Sequence[float]]
    counts: Mapping[Outcome, int]
    notes: Sequence[str]

    def trends(self) -> dict[str, Trend]:
        """The verdict on each series, where it has values: no request may have been answered between two moments."""
        trends = {}
        for name, values in self.series.items():
            known = [pair for pair in zip(self.moments, values, strict=True) if not math.isnan(pair[1])]
            moments, numbers = zip(*known, strict=True)
            trends[name] = judge(moments, numbers, TOLERANCES[name])
        return trends

    def faults(self) -> list[str]:
        """What must not be."""
        never = [
            f"{self.counts[outcome]} {outcome.value} ({'; '.join(self.notes)})"
            for outcome in NEVER
            if self.counts[outcome]
        ]
        return never + [
            f"{name} grows: {trend.growth:+.3g} in the last two thirds (tolerance {trend.tolerance:.3g})"
            for name, trend in self.trends().items()
            if trend.growing
        ]

    def to_json(self) -> dict[str, Any]:
        """What a report keeps; the samples themselves are in the CSV."""
        return {
            "rate_per_s": round(self.rate, 2),
            "seconds": round(self.moments[-1], 1),
            "counts": {outcome.value: self.counts[outcome] for outcome in Outcome},
            "trends": {
                name: {key: round(value, 3) for key, value in asdict(trend).items()} | {"growing": trend.growing}
                for name, trend in self.trends().items()
            },
            "notes": list(self.notes),
            "faults": self.faults(),
        }


async def soak(service: Service, *, seconds: float, spec: Spec = IMAGES) -> Soak:
    """Find the knee through the gateway, which all of the service takes part in, and run at 70 % of it.

    Before that as much is asked at once as the service ever lets in, so that a stall of the machine, after which much
    is under way at a time, finds allocators that have grown to it already.
    """
    async with all_protocols(service, spec) as protocols:
        await ask_beside(protocols, FILL_SECONDS, clients=FILL_CLIENTS)
        rate = SHARE * (await find_rate(Generator(*protocols["gateway"]), KNEE_SECONDS))[0]
        watch = asyncio.create_task(service.watch(min(SAMPLE_SECONDS, seconds / LEAST_SAMPLES)))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(Generator(*asked).open_loop(rate / len(protocols), seconds, warm_up=0.0, seed=number))
                for number, asked in enumerate(protocols.values())
            ]
        watch.cancel()
        clocks, usages = zip(*await watch, strict=True)
    whole = together(task.result() for task in tasks)
    held = [usage.to_json() for usage in usages[1:]]
    series = {name: [each[name] for each in held] for name in TOLERANCES if name != P99}
    moments = [clock - clocks[0] for clock in clocks[1:]]
    return Soak(rate, moments, series | {P99: _p99_between(whole, clocks)}, whole.totals(), whole.notes())


def _p99_between(result: Result, clocks: Sequence[float]) -> list[float]:
    """p99 in milliseconds of the right answers that came between each two moments; not a number where none came."""
    answered = [sample for sample in result.samples if sample.outcome is Outcome.ANSWERED]
    intervals = np.searchsorted(clocks, [sample.finished for sample in answered])
    taken: list[list[float]] = [[] for _ in clocks]
    for sample, interval in zip(answered, intervals, strict=True):
        if interval < len(clocks):
            taken[interval].append(1000 * sample.latency)
    return [float(np.percentile(values, 99)) if values else float("nan") for values in taken[1:]]


def write(run: Soak, folder: Path) -> None:
    """soak.json, soak.csv and soak.png."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": describe_machine()} | run.to_json()
    (folder / "soak.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (folder / "soak.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["seconds", *run.series])
        rows.writerows(
            [round(moment, 1), *(round(values[i], 1) for values in run.series.values())]
            for i, moment in enumerate(run.moments)
        )
    draw(run, folder / "soak.png")


def draw(run: Soak, path: Path) -> None:
    """A panel for each series, with its median and tolerance."""
    figure = Figure(figsize=(8, 1.6 * len(run.series)))  # by itself it needs no display
    panels = figure.subplots(len(run.series), 1, sharex=True)
    minutes = [moment / 60 for moment in run.moments]
    for panel, (name, trend) in zip(panels, run.trends().items(), strict=True):
        panel.plot(minutes, run.series[name], linewidth=1)
        panel.axhspan(trend.median - trend.tolerance, trend.median + trend.tolerance, alpha=0.12)
        panel.set_ylabel(name, fontsize=7)
        panel.set_ylim(bottom=0)
    panels[-1].set_xlabel("minutes")
    figure.suptitle(f"{run.rate:.1f} images/s, {SHARE:.0%} of the knee; shaded: median and tolerance", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = argparse.ArgumentParser(prog="python -m load.faults.soak", description=__doc__)
    add = command.add_argument
    add("repository", nargs="?", type=Path, default=REPOSITORY, metavar="REPOSITORY", help="default: %(default)s")
    add("--minutes", type=float, default=30.0, metavar="M", help="default: %(default)s")
    add("--into", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    options = command.parse_args(arguments)
    with Service(options.repository) as service:
        run = asyncio.run(soak(service, seconds=60 * options.minutes))
    write(run, options.into)
    print(json.dumps(run.to_json(), indent=2))
    print(f"written to {options.into}: soak.json, soak.csv, soak.png")
    return 1 if run.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
