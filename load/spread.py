"""`python -m load.spread`: several Tritons behind one gateway.

Stubs of a fixed speed stand for Tritons, so that cores do not limit. The gateway is a real one, in its own process.

    1, 2, 4 servers       images/s, beside what so many can give
    one of them killed    in the middle of a run: how many requests were under way there, and how all ended
    one of them slow      a tenth of the others' speed: images/s, beside what the others can give

Prints tables and writes build/spread.json.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.bulk.stubs import WIDTH, Serving, Stubs, counts, serving
from load.core.checks import Outcome, check_vectors
from load.core.clients_asyncio import open_client
from load.core.generator import Generator, Result
from load.core.inputs import Spec, images
from load.core.machine import describe_machine, write_json
from load.core.operations import EmbedImages
from load.core.turns import say
from load.core.workload import Question
from tritonclip_server.embedded.gateway import Gateway

RESULTS = Path("build/spread.json")
PHOTO = images(Spec(width=64, height=48, count=1))[0]  # a stub does not look at it
SLOWNESS = 10.0


@dataclass(frozen=True)
class Setting:
    """How fast a server is, how many clients there are for each, and how long a run takes."""

    images_per_s: float = 20.0
    clients: int = 8
    seconds: float = 20.0


def measure(servers: int, setting: Setting) -> dict[str, Any]:
    """So many servers: images/s, and its share of what they can give."""
    result = _run([setting.images_per_s] * servers, setting)
    return _figures(servers, result, servers * setting.images_per_s)


def measure_slow(servers: int, setting: Setting) -> dict[str, Any]:
    """The same with one of them slow: images/s, and its share of what the others can give."""
    speeds = [setting.images_per_s / SLOWNESS, *[setting.images_per_s] * (servers - 1)]
    return _figures(servers, _run(speeds, setting), (servers - 1) * setting.images_per_s)


def measure_killed(servers: int, setting: Setting) -> dict[str, Any]:
    """One of them killed in the middle: how many requests were under way there, and how all ended from then on."""
    under_way: list[int] = []
    killed: list[float] = []

    def kill(running: Sequence[Serving]) -> None:
        under_way.append(counts(running[0].connection).waiting)
        running[0].process.kill()
        killed.append(time.perf_counter())

    result = _run([setting.images_per_s] * servers, setting, kill)
    after = [sample for sample in result.samples if sample.finished > killed[0]]
    answered = sum(sample.outcome is Outcome.ANSWERED for sample in after)
    return {
        "servers": servers,
        "under_way_there": under_way[0],
        "answered_after": answered,
        "not_answered": len(after) - answered,
        "slowest_ms": round(1000 * max(sample.latency for sample in after)),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """A line for each run; all have the same figures."""
    names = list(found[0])
    rows = [names, ["---"] * len(names), *(map(str, each.values()) for each in found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figures(servers: int, result: Result, capacity: float) -> dict[str, Any]:
    rate = result.steady_rate
    return {"servers": servers, "images_per_s": round(rate, 1), "of_capacity": round(rate / capacity, 3)}


Strike = Callable[[Sequence[Serving]], None]


def _run(speeds: Sequence[float], setting: Setting, strike: Strike = lambda _: None) -> Result:
    """Load on a gateway before servers of these speeds; `strike` is called with them in the middle."""
    with ExitStack() as stack:
        running = [stack.enter_context(serving(Stubs(1, 1 / speed, queued=1000))) for speed in speeds]
        url = "grpc://" + ",".join(each.urls[0].partition("://")[2] for each in running)
        clients = setting.clients * len(speeds)
        gateway = stack.enter_context(Gateway([url], 0, items_in_flight=clients, say=lambda _: None))
        return asyncio.run(_load(gateway.url, clients, setting.seconds, lambda: strike(running)))


async def _load(url: str, clients: int, seconds: float, strike: Callable[[], None]) -> Result:
    client = open_client("gateway", url)
    question = Question(EmbedImages([PHOTO]), check_vectors((1, WIDTH)))
    warm_up = seconds / 4  # a slow server has its share by then
    asyncio.get_running_loop().call_later(warm_up + seconds / 2, strike)
    try:
        return await Generator(client, [question]).closed_loop(clients, seconds, warm_up)
    finally:
        await client.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.spread", description=__doc__)
    add, usual = command.add_argument, Setting()
    add("--servers", type=int, nargs="+", default=(1, 2, 4), metavar="N", help="(default: %(default)s)")
    add("--images-per-s", type=float, default=usual.images_per_s, metavar="R", help="of a server (%(default)s)")
    add("--clients", type=int, default=usual.clients, metavar="N", help="for each server (default: %(default)s)")
    add("--seconds", type=float, default=usual.seconds, metavar="S", help="of a run (default: %(default)s)")
    options = command.parse_args(arguments)
    setting = Setting(options.images_per_s, options.clients, options.seconds)
    most = max(options.servers)
    say(f"{', '.join(map(str, options.servers))} servers")
    found: dict[str, Any] = {"servers": [measure(servers, setting) for servers in options.servers]}
    print(table(found["servers"]), flush=True)
    if most > 1:
        for name, run in (("killed", measure_killed), ("slow", measure_slow)):
            say(f"{most} servers, one of them {name}")
            found[name] = run(most, setting)
            print(table([found[name]]), flush=True)
    write_json({"machine": describe_machine(), "setting": vars(setting), **found}, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
