"""`python -m load.capacity`: how much a deployment carries and what limits it.

Writes report.json, report.md and charts into build/capacity/<variant> (with the task's name, where it is not
embed_image). Ends with 1 where an answer was wrong or a request hung.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from load.capacity import bench, repositories
from load.capacity.charts import draw
from load.capacity.compare import with_bare, with_unbatched
from load.capacity.deployment import Deployment, Embedded, embedded, running
from load.capacity.markdown import to_markdown
from load.capacity.meter import open_meter
from load.capacity.report import describe, findings, step_json
from load.capacity.workload import TASKS, Load, Workload, pixels
from load.core.inputs import FORMATS, Spec
from load.core.knee import NotMeasurable
from load.core.machine import write_json
from load.core.protocols import RequestProblem
from load.core.turns import say
from load.core.workload import WrongModel
from tritonclip_server.embedded.errors import ServeError

CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)
RESULTS = Path("build/capacity")
COMMANDS = {"compare": repositories.main, "bench": bench.main}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]](arguments[1:])
        return _measure(_parse(arguments))
    except (NotMeasurable, WrongModel, RequestProblem, ServeError) as error:
        print(error, file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    command = argparse.ArgumentParser(
        prog="python -m load.capacity", description=__doc__, epilog=f"Other commands: {', '.join(COMMANDS)}."
    )
    add = command.add_argument
    many: dict[str, Any] = {"nargs": "+", "metavar": "N"}
    add("--repository", type=Path, default="build/models/demo", help="the served repository (default: %(default)s)")
    add("--url", help="grpc://HOST:PORT of a server that is up, instead of starting one")
    add("--task", choices=TASKS, default="embed_image", help="what each request asks (default: %(default)s)")
    add("--images-per-request", type=int, default=1, metavar="N", help="texts for embed_text (default: 1)")
    add("--size", type=pixels, default="640x480", metavar="WxH", help="of the images (default: %(default)s)")
    add("--format", choices=FORMATS, default="JPEG", help="of the images (default: %(default)s)")
    add("--images", type=int, default=16, metavar="N", help="different images (default: %(default)s)")
    add("--seconds", type=float, default=10.0, help="of each measurement, warm-up apart (default: %(default)s)")
    add("--rounds", type=int, default=3, help="of each comparison (default: %(default)s)")
    add("--concurrency", type=int, default=CONCURRENCY, help="clients of each step (default: %(default)s)", **many)
    add("--rates", type=float, default=(), help="also steps of N requests/s at random", **many)
    add("--no-bare", action="store_true", help="leave out the comparison with the bare encoder")
    add("--batching", action="store_true", help="also the same load with dynamic batching off")
    add("--into", type=Path, metavar="FOLDER", help=f"for the results (default: {RESULTS}/VARIANT)")
    options = command.parse_args(arguments)
    if options.url and options.batching:
        command.error("--batching starts servers of its own, so it does not go with --url")
    counts = (options.images_per_request, options.images, options.seconds, options.rounds, *options.size)
    if min(*counts, *options.concurrency, *options.rates) <= 0:
        command.error("numbers must be above 0")
    return options


def _measure(options: argparse.Namespace) -> int:
    width, height = options.size
    spec = Spec(width, height, options.format, options.images)
    workload = Workload(options.task, options.images_per_request, spec)
    with ExitStack() as stack:
        deployment = (
            running(options.url, options.repository)
            if options.url
            else stack.enter_context(embedded(options.repository, Path("build/capacity-triton.log")))
        )
        name = (deployment.manifest.variant or "unknown").replace("/", "-")
        task = "" if workload.task == "embed_image" else f"-{workload.task}"
        folder = Path(options.into or RESULTS / f"{name}{task}")
        document = asyncio.run(measure(deployment, workload, options))
    folder.mkdir(parents=True, exist_ok=True)
    document["charts"] = draw(document, folder)
    text = to_markdown(document)
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    print(text, end="\n\n")
    write_json(document, folder / "report.json")
    return 1 if document["outcomes"]["wrong"] or document["outcomes"]["hung"] else 0


async def measure(deployment: Deployment, workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """The whole report as a document: sweeps, then comparisons at the knee."""
    loads = [*map(Load, options.concurrency), *(Load(rate_per_s=rate) for rate in options.rates)]
    say("references, one at a time")
    async with AsyncExitStack() as stack:
        swept = await open_meter(stack, deployment, workload.questions, loads[0], options.seconds)
        for load in loads:
            say(f"{load}")
            await swept.step(load)
    closed, opened = swept.steps[: len(options.concurrency)], swept.steps[len(options.concurrency) :]
    document = describe(deployment, workload) | findings(closed, deployment.instances)
    document |= {
        "seconds": options.seconds,
        "closed_loop": [step_json(step, workload, deployment.instances) for step in closed],
        "open_loop": [step_json(step, workload, deployment.instances) for step in opened],
        "versus_bare": None,
        "batching": None,
    }
    counts = [swept.outcomes()]
    if isinstance(deployment, Embedded):
        at_knee = (deployment, workload, Load(document["knee"]["concurrency"]), options.rounds, options.seconds)
        if workload.task == "embed_image" and not options.no_bare:
            document["versus_bare"] = await with_bare(*at_knee)
        if options.batching:
            document["batching"] = await with_unbatched(*at_knee, Path("build/capacity-unbatched-triton.log"))
        compared = [found for found in (document["versus_bare"], document["batching"]) if found is not None]
        counts += [count for found in compared for count in found["outcomes"].values()]
    document["outcomes"] = {name: sum(count[name] for count in counts) for name in counts[0]}
    return document
