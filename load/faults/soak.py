"""`python -m load.faults.soak --minutes 30`: a long time at 70 % of what the service carries. Does anything grow?

Requests arrive at random over all protocols, every answer is checked. Resident memory, descriptors and shared memory of
Triton's processes and the gateway are sampled every 10 s (or 60 times in all, where that is more often), and the p99
of the answers in between. `load.faults.trends` says what growth is. Writes JSON, CSV and a chart; exits with 1 where
anything grew, was wrong, failed or hung.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from load.core.checks import Outcome
from load.core.generator import Generator, together
from load.core.inputs import Spec
from load.core.limits import Limit
from load.core.machine import describe_machine, write_json
from load.core.sender import Sample
from load.faults.background_load import all_protocols, ask_beside
from load.faults.overload import find_rate
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import Service, serve
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


@dataclass(frozen=True)
class Soak:
    """A run: its requests by how they ended, and a value of each series for each moment (seconds from the start)."""

    rows: Sequence[Row]
    moments: Sequence[float]
    series: Mapping[str, Sequence[float]]

    def trends(self) -> dict[str, Trend]:
        """The verdict on each series."""
        return {name: judge(self.moments, values, TOLERANCES[name]) for name, values in self.series.items()}

    def report(self) -> Report:
        """What must not be: growth, and requests that were neither answered nor refused."""
        limits = [
            Limit(f"{name}: growth after the first third", trend.growth, trend.tolerance, timing=name == P99)
            for name, trend in self.trends().items()
        ]
        return Report("soak", self.rows, [*limits, all_answered("all", self.rows, or_refused=True)])


async def soak(service: Service, *, seconds: float, spec: Spec = IMAGES) -> Soak:
    """Find the knee through the gateway, which all of the service takes part in, and run at 70 % of it.

    Before that as much is asked at once as the service ever lets in, so that a stall of the machine, after which much
    is under way at a time, finds allocators that have grown to it already.
    """
    async with all_protocols(service.urls, spec) as protocols:
        await ask_beside(protocols, FILL_SECONDS, clients=FILL_CLIENTS)
        rate = SHARE * (await find_rate(Generator(*protocols["gateway"]), KNEE_SECONDS))[0]
        watch = asyncio.create_task(service.watch(min(SAMPLE_SECONDS, seconds / LEAST_SAMPLES)))
        results = await ask_beside(protocols, seconds, rate=rate)
        watch.cancel()
        clocks, usages = zip(*await watch, strict=True)
    series: dict[str, Sequence[float]] = {
        name: [getattr(usage, name) for usage in usages[1:]] for name in TOLERANCES if name != P99
    }
    series[P99] = _p99_between(together(results.values()).samples, clocks)
    rows = rows_of(f"{SHARE:.0%} of the knee", results, rate_per_s=round(rate / len(results), 2))
    return Soak(rows, [clock - clocks[0] for clock in clocks[1:]], series)


def _p99_between(samples: Sequence[Sample], clocks: Sequence[float]) -> list[float]:
    """p99 in milliseconds of the right answers that came between each two moments; not a number where none came."""
    answered = [(sample.finished, 1000 * sample.latency) for sample in samples if sample.outcome is Outcome.ANSWERED]
    finished, latencies = np.array(answered).reshape(-1, 2).T
    intervals = np.searchsorted(clocks, finished)
    taken = (latencies[intervals == interval] for interval in range(1, len(clocks)))
    return [float(np.percentile(values, 99)) if len(values) else float("nan") for values in taken]


def write(run: Soak, folder: Path) -> None:
    """soak.json, soak.csv and soak.png."""
    write_json({"machine": describe_machine()} | run.report().to_json(), folder / "soak.json")
    columns = {"seconds": run.moments, **run.series}
    values = np.column_stack(list(columns.values()))
    np.savetxt(folder / "soak.csv", values, fmt="%.1f", delimiter=",", header=",".join(columns), comments="")
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
    figure.suptitle(f"{SHARE:.0%} of the knee; shaded: median and tolerance", fontsize=9)
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
    with serve(options.repository) as service:
        run = asyncio.run(soak(service, seconds=60 * options.minutes))
    print(run.report().table())
    write(run, options.into)
    return 1 if run.report().faults() else 0


if __name__ == "__main__":
    sys.exit(main())
