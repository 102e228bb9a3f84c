"""`python -m load.capacity`: how much a deployment carries and what limits it; `tune` after it tries other settings.

Writes report.json, report.md and charts into build/capacity/<variant> (with the task's name, where it is not
embed_image). Ends with 1 where an answer was wrong or a request hung.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from load.capacity import tune
from load.capacity.charts import draw_report
from load.capacity.compare import count_outcomes, with_bare, with_unbatched
from load.capacity.deployment import Deployment, Embedded, embedded, running
from load.capacity.markdown import report_markdown
from load.capacity.options import add_common, output_folder, positive, say, work_of
from load.capacity.report import describe, findings, step_json
from load.capacity.sweep import Step, sweep
from load.capacity.workload import Closed, Load, Open, Work
from load.core.clients_asyncio import GrpcTarget, RequestProblem
from load.core.knee import NotMeasurable
from load.core.probe import WrongModel
from load.core.triton_stats import Statistics
from tritonclip_server.embedded.errors import ServeError

CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["tune"]:
            return tune.main(arguments[1:])
        return _measure(_parse(arguments))
    except (NotMeasurable, WrongModel, RequestProblem, ServeError) as error:
        print(error, file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    command = argparse.ArgumentParser(prog="python -m load.capacity", description=__doc__)
    add_common(command)
    command.add_argument("--url", help="grpc://HOST:PORT of a server that is up, instead of starting one")
    command.add_argument(
        "--concurrency",
        type=positive(int),
        nargs="+",
        default=CONCURRENCY,
        metavar="N",
        help=f"clients of each step (default: {' '.join(map(str, CONCURRENCY))})",
    )
    command.add_argument(
        "--rates", type=positive(float), nargs="+", default=(), metavar="R", help="also steps of R requests/s at random"
    )
    command.add_argument("--no-bare", action="store_true", help="leave out the comparison with the bare encoder")
    command.add_argument("--batching", action="store_true", help="also the same load with dynamic batching off")
    options = command.parse_args(arguments)
    if options.url and options.batching:
        command.error("--batching starts servers of its own, so it does not go with --url")
    return options


def _measure(options: argparse.Namespace) -> int:
    work = work_of(options)
    with ExitStack() as stack:
        deployment: Deployment
        if options.url:
            deployment = running(options.url, options.repository)
        else:
            deployment = stack.enter_context(embedded(options.repository, Path("build/capacity-triton.log")))
        folder = output_folder(options, deployment, work)
        folder.mkdir(parents=True, exist_ok=True)
        document = asyncio.run(measure(deployment, work, options))
    document["charts"] = draw_report(document, folder)
    (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = report_markdown(document, document["charts"])
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 1 if document["outcomes"]["wrong"] or document["outcomes"]["hung"] else 0


async def measure(deployment: Deployment, work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """The whole report as a document: sweeps, then comparisons at the knee."""
    closed, opened = await _sweeps(deployment, work, options)
    document = describe(deployment, work) | findings(closed, deployment.instances)
    document |= {
        "seconds": options.seconds,
        "closed_loop": [step_json(step, work, deployment.instances) for step in closed],
        "open_loop": [step_json(step, work, deployment.instances) for step in opened],
        "versus_bare": None,
        "batching": None,
    }
    knee = Closed(document["knee"]["concurrency"])
    counts = [count_outcomes([*closed, *opened])]
    if isinstance(deployment, Embedded):
        if work.task == "embed_image" and not options.no_bare:
            versus = await with_bare(deployment, work, knee, options.rounds, options.seconds, say)
            document["versus_bare"] = versus
            counts += versus["outcomes"].values()
        if options.batching:
            log = Path("build/capacity-unbatched-triton.log")
            batching = await with_unbatched(deployment, work, knee, options.rounds, options.seconds, log, say)
            document["batching"] = batching
            counts += batching["outcomes"].values()
    document["outcomes"] = {name: sum(count[name] for count in counts) for name in counts[0]}
    return document


async def _sweeps(deployment: Deployment, work: Work, options: argparse.Namespace) -> tuple[list[Step], list[Step]]:
    target, statistics = GrpcTarget(deployment.grpc_url), Statistics(deployment.grpc_url)
    try:
        say("references, one at a time")
        questions = await work.questions(target, deployment.manifest)

        async def steps(loads: Sequence[Load]) -> list[Step]:
            return await sweep(target, questions, statistics, loads, options.seconds, say)

        return await steps([Closed(n) for n in options.concurrency]), await steps([Open(r) for r in options.rates])
    finally:
        statistics.close()
        await target.close()
