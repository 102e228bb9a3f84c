"""The `python -m load.faults` command: every experiment, a table for each, and a verdict."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from load.core.machine import describe_machine, write_json
from load.faults.bad_inputs import poison
from load.faults.clock_skew import clock
from load.faults.idle import idle
from load.faults.overload import IMAGES, overload
from load.faults.process_kill import kill
from load.faults.reports import Report
from load.faults.service import Service, serve
from load.faults.slow_clients import slow

REPOSITORY = Path("build/models/demo")
RESULTS = Path("build/faults.json")

EXPERIMENTS: dict[str, Callable[[Service, argparse.Namespace], Coroutine[Any, Any, Report]]] = {
    "overload": lambda service, options: overload(service, seconds=options.seconds, spec=IMAGES[options.images]),
    "poison": lambda service, options: poison(service, rounds=options.rounds),
    "slow": lambda service, options: slow(service, seconds=options.seconds),
    "idle": lambda service, options: idle(service, connections=options.connections, seconds=5.0),
    "clock": lambda service, _options: clock(service, seconds=10.0),
    "kill": lambda service, _options: kill(service),
}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(prog="python -m load.faults", description=__doc__)
    add = command.add_argument
    add("repository", nargs="?", type=Path, default=REPOSITORY, metavar="REPOSITORY", help="default: %(default)s")
    add("--only", nargs="+", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    seconds = "of overload over each protocol, and of each kind of slow client (default: %(default)s)"
    add("--seconds", type=float, default=120.0, metavar="S", help=seconds)
    kinds = "of overload: heavy (1280x960 WEBP) where decoding is the limit, usual (640x480 JPEG) where encoding is"
    add("--images", choices=IMAGES, default="heavy", help=f"{kinds} (default: %(default)s)")
    add("--rounds", type=int, default=500, metavar="N", help="batches with a bad image (default: %(default)s)")
    add("--connections", type=int, default=10_000, metavar="N", help="that say nothing (default: %(default)s)")
    add("--json", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where anything was wrong or hung, or a limit was missed."""
    options = parser().parse_args(arguments)
    reports = []
    for name, experiment in EXPERIMENTS.items():
        if options.only is None or name in options.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            with serve(options.repository) as service:  # a new one, so that none inherits the harm of another
                report = asyncio.run(experiment(service, options))
            print(report.table(), flush=True)
            reports.append(report)
    found = {report.name: report.to_json() for report in reports}
    write_json({"machine": describe_machine(), "experiments": found}, options.json)
    faults = [f"{report.name}: {fault}" for report in reports for fault in report.faults()]
    print("\n".join(["FAULTS", *faults] if faults else ["no faults"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
