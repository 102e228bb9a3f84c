"""`python -m load.faults.soak --minutes 30`: a long time at 70 % of what the service carries. Does anything grow?

Requests arrive at random by all ways in, every answer is checked. Resident memory, descriptors and shared memory of
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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from load.core.checks import Outcome
from load.core.generator import Result, Traffic
from load.core.inputs import Spec
from load.core.machine import describe_machine
from load.core.process_stats import Usage
from load.faults.background_load import Ways, ask_beside, ways_in
from load.faults.overload import find_rate
from load.faults.service import Service
from load.faults.trends import Tolerance, Trend, judge

REPOSITORY = Path("build/models/demo")
RESULTS = Path("build/soak")
PICTURES = Spec(count=32)
SHARE = 0.7
KNEE_SECONDS = 5.0
FILL_SECONDS = 5.0
FILL_CLIENTS = 128  # on each way
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
            known = [
                (moment, value) for moment, value in zip(self.moments, values, strict=True) if not math.isnan(value)
            ]
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
                name: {
                    "median": round(trend.median, 2),
                    "growth": round(trend.growth, 3),
                    "tolerance": round(trend.tolerance, 2),
                    "z": round(trend.z, 2),
                    "growing": trend.growing,
                }
                for name, trend in self.trends().items()
            },
            "notes": list(self.notes),
            "faults": self.faults(),
        }


async def soak(service: Service, *, seconds: float, spec: Spec = PICTURES) -> Soak:
    """Find the knee through the gateway, which all of the service takes part in, and run at 70 % of it.

    Before that as much is asked at once as the service ever lets in, so that a stall of the machine, after which much
    is under way at a time, finds allocators that have grown to it already.
    """
    async with ways_in(service, spec) as ways:
        await ask_beside(ways, FILL_SECONDS, clients=FILL_CLIENTS)
        rate = SHARE * (await find_rate(Traffic(*ways["gateway"]), KNEE_SECONDS))[0]
        sampling = asyncio.create_task(_sample(service, min(SAMPLE_SECONDS, seconds / LEAST_SAMPLES)))
        results = await _ask(ways, rate / len(ways), seconds)
        sampling.cancel()
        clocks, usages = await sampling
    p99 = _p99_between(results, clocks)
    moments = [clock - clocks[0] for clock in clocks[1:]]
    series = {name: [usage.to_json()[name] for usage in usages[1:]] for name in TOLERANCES if name != P99}
    totals = [result.totals() for result in results]
    return Soak(
        rate,
        moments,
        series | {P99: p99},
        {outcome: sum(counts[outcome] for counts in totals) for outcome in Outcome},
        [note for result in results for note in result.notes(2)],
    )


async def _ask(ways: Ways, rate: float, seconds: float) -> list[Result]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(Traffic(target, questions).open_loop(rate, seconds, warm_up=0.0, seed=number))
            for number, (target, questions) in enumerate(ways.values())
        ]
    return [task.result() for task in tasks]


async def _sample(service: Service, every: float) -> tuple[list[float], list[Usage]]:
    """Moments on the requests' clock and what was held then, until cancelled."""
    clocks: list[float] = []
    usages: list[Usage] = []
    try:
        while True:
            usage = await asyncio.to_thread(service.usage)
            clocks.append(time.perf_counter())
            usages.append(usage)
            await asyncio.sleep(every)
    except asyncio.CancelledError:
        return clocks, usages


def _p99_between(results: Sequence[Result], clocks: Sequence[float]) -> list[float]:
    """p99 in milliseconds of the right answers that came between each two moments; not a number where none came."""
    answered = [s for result in results for s in result.samples if s.outcome is Outcome.ANSWERED]
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
    command.add_argument(
        "repository", nargs="?", type=Path, default=REPOSITORY, metavar="REPOSITORY", help="default: %(default)s"
    )
    command.add_argument("--minutes", type=float, default=30.0, metavar="M", help="default: %(default)s")
    command.add_argument("--into", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    options = command.parse_args(arguments)
    with Service(options.repository) as service:
        run = asyncio.run(soak(service, seconds=60 * options.minutes))
    write(run, options.into)
    print(json.dumps(run.to_json(), indent=2))
    print(f"written to {options.into}: soak.json, soak.csv, soak.png")
    return 1 if run.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
