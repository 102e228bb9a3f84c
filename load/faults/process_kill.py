"""kill -9 under load: what clients see, and how long until right answers flow again.

The launcher notices the death of Triton, of one of its Python processes or of the gateway, and starts it again. All
three protocols are asked all the while.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence

import psutil

from load.core.checks import Outcome
from load.core.generator import Result, together
from load.core.limits import Limit
from load.core.sender import Sample
from load.faults.background_load import Protocols, all_protocols, ask_beside
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import START_SECONDS, Service

VICTIMS: dict[str, Callable[[Service], psutil.Process]] = {
    "a preprocessing process": lambda service: service.stub("image_preprocess_0_0"),
    "an encoder's process": lambda service: service.stub("image_encoder_0_0"),
    "Triton": lambda service: service.triton,
    "the gateway": lambda service: service.gateway,
}
SLICE_SECONDS = 2.0  # of generator; it goes on until one slice is answered whole
BACK_SECONDS = 30.0


async def kill(service: Service, *, victims: Sequence[str] = tuple(VICTIMS)) -> Report:
    """One death after the other, each under load. The launcher gives up at the fourth of Triton within five minutes."""
    rows: list[Row] = []
    limits: list[Limit] = []
    async with all_protocols(service.urls) as protocols:
        for victim in victims:
            found = await _kill_one(service, protocols, victim)
            rows += found
            back = max(row.figures["back_seconds"] for row in found)
            limits.append(Limit(f"{victim}: seconds until service was back", back, BACK_SECONDS, timing=True))
            if victim == "the gateway":
                direct = [row for row in found if row.protocol != "gateway"]
                limits.append(all_answered("the gateway's death, those who ask Triton", direct))
    return Report("kill", rows, limits)


def back_seconds(samples: Sequence[Sample], blow: float) -> float:
    """Seconds from the blow to the first right answer after which there was neither another failure nor a longer gap.

    `blow` is on the samples' clock. Infinite where no right answer came after the last failure.
    """
    ends = [blow, *sorted(s.finished for s in samples if s.outcome is Outcome.ANSWERED and s.finished > blow)]
    bad = max((s.finished for s in samples if s.outcome is not Outcome.ANSWERED), default=blow)
    gaps = [(later - earlier, later) for earlier, later in itertools.pairwise(ends)]
    after_gap = max(gaps, default=(0.0, blow))[1]
    return min((end for end in ends[1:] if end >= max(bad, after_gap)), default=float("inf")) - blow


async def _kill_one(service: Service, protocols: Protocols, victim: str) -> list[Row]:
    """Ask, kill, and ask on until the launcher has started the victim again and everything is answered."""
    lines = len(service.launcher.said)
    ready = "gateway ready:" if victim == "the gateway" else "ready after"
    blow = float("inf")

    async def strike() -> None:
        nonlocal blow
        await asyncio.sleep(SLICE_SECONDS / 2)
        process = VICTIMS[victim](service)
        blow = time.perf_counter()
        process.kill()

    slices: list[dict[str, Result]] = []
    striking = asyncio.create_task(strike())
    restarted = asyncio.create_task(asyncio.to_thread(service.launcher.wait_for_line, ready, lines, START_SECONDS))
    while not (restarted.done() and all_answered(victim, rows_of(victim, slices[-1])).held):
        slices.append(await ask_beside(protocols, SLICE_SECONDS, was_killed=lambda: time.perf_counter() >= blow))
        if time.perf_counter() > blow + START_SECONDS:
            break
    await striking
    await restarted
    rows = []
    for name in protocols:
        whole = together(one[name] for one in slices)
        rows.append(Row.of(victim, name, whole, back_seconds=round(back_seconds(whole.samples, blow), 2)))
    return rows
