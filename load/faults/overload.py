"""Four times the load that the service carries: it must do its usual work, and refuse the rest in time.

Triton refuses at once what its queues do not hold. The gateway has requests wait first, and refuses what it could not
let in within its limit.

The knee is found first, in the same run, by closed loops; then requests arrive at random at four times its rate,
whatever became of the others. Heavy images cost more to decode than to send, so that the sender, which shares the
machine, is not what is measured. Before a slow encoder usual ones are enough. An image that is decoded in order to be
refused costs those that are not: Triton's statistics say how many were.
"""

import asyncio

import numpy as np

from load.core.checks import Outcome
from load.core.generator import Generator, Result, together
from load.core.inputs import Spec
from load.core.knee import find_knee
from load.core.limits import Limit
from load.faults.background_load import all_protocols, ask_beside
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import Service
from tritonclip_server.gateway.settings import Limits

HEAVY = Spec(width=1280, height=960, format="WEBP", count=8)
IMAGES = {"heavy": HEAVY, "usual": Spec(width=640, height=480)}
CONCURRENCIES = (2, 8, 32)
TIMES = 4.0
GOODPUT_SHARE = 0.8
DECODED_SHARE = 1.1  # of the images that are encoded; some callers leave in between
REFUSED_MS = 1000.0  # p99, beyond the time that a request may wait; the sender is as busy as the server
WAITING_MS = {"gateway": 1000 * Limits().waiting_seconds}
ACCEPTED_MS = 30_000.0  # p99: what the gateway grants a request; Triton's queues are shorter than that
GROWTH_SHARE = 0.10  # of resident memory, from the middle of the run to its end
USAGE_SECONDS = 1.0


async def overload(service: Service, *, seconds: float, spec: Spec = HEAVY) -> Report:
    """Over each protocol for so many seconds, one after the other."""
    rows, limits = [], []
    async with all_protocols(service.urls, spec) as protocols:
        for name, asked in protocols.items():
            generator = Generator(*asked)
            knee, steps = await find_rate(generator, seconds / 10)
            watch, before = asyncio.create_task(service.watch(USAGE_SECONDS)), await worked_on(service)
            result = await generator.open_loop(TIMES * knee, seconds)
            watch.cancel()
            memory = [usage.mib for _, usage in await watch]
            decoded, encoded = (now - then for now, then in zip(await worked_on(service), before, strict=True))
            share = result.goodput / knee
            rows += [
                Row("to find the knee", name, together(steps).totals(), figures={"knee_per_s": round(knee, 2)}),
                Row.of(f"{TIMES:g} times the knee", name, result, goodput_share=round(share, 3)),
            ]
            limits += [
                Limit(f"{name}: goodput at {TIMES:g} times the knee, of the knee's", share, GOODPUT_SHARE, True, True),
                Limit(f"{name}: decoded, of what was encoded", decoded / max(1, encoded), DECODED_SHARE),
                Limit(
                    f"{name}: p99 of refusals, ms",
                    _p99(result, Outcome.REFUSED),
                    REFUSED_MS + WAITING_MS.get(name, 0.0),
                    timing=True,
                ),
                Limit(f"{name}: p99 of answers, ms", _p99(result, Outcome.ANSWERED), ACCEPTED_MS, timing=True),
                Limit(f"{name}: refused, or nothing was shown", rows[-1].counts[Outcome.REFUSED], 1, True, True),
                Limit(f"{name}: answered", rows[-1].counts[Outcome.ANSWERED], 1, True),
                all_answered(name, rows[-1:], or_refused=True),
                Limit(f"{name}: growth of resident memory", growth(memory), GROWTH_SHARE),
            ]
        after = await ask_beside(protocols, min(5.0, seconds))
    afterwards = rows_of("afterwards", after)
    return Report("overload", [*rows, *afterwards], [*limits, all_answered("afterwards", afterwards)])


async def find_rate(generator: Generator, seconds: float) -> tuple[float, list[Result]]:
    """Items a second at the knee, by closed loops of so many seconds each, and their results."""
    steps = [await generator.closed_loop(clients, max(1.0, seconds)) for clients in CONCURRENCIES]
    knee = find_knee([(clients, step.goodput) for clients, step in zip(CONCURRENCIES, steps, strict=True)])
    return knee.goodput, steps


def growth(memory: list[float]) -> float:
    """How much the mean of the last third of a series is above that of the middle third, as a share."""
    third = max(1, len(memory) // 3)
    middle, end = float(np.mean(memory[third : 2 * third] or memory)), float(np.mean(memory[-third:]))
    return end / middle - 1


async def worked_on(service: Service) -> tuple[int, int]:
    """How many images have been decoded, and how many encoded."""
    counted = await asyncio.to_thread(service.counters)
    return counted["image_preprocess"].items, counted["image_encoder"].items


def _p99(result: Result, outcome: Outcome) -> float:
    return (result.latency_ms(outcome) or {"p99": 0.0})["p99"]
