"""Load from one event loop, every answer checked, every request's end known.

    closed loop    N clients, each asks again as soon as it was answered: what a fixed number of callers sees
    open loop      requests arrive at random (Poisson) at a given rate, whatever became of the others: what a crowd does

Latency counts from the moment a request began; in an open loop from the moment it should have begun, so that a stalled
sender hides nothing. A run ends when all its requests have ended, each after its deadline and grace at the latest.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from load.core.checks import Check, Outcome
from load.core.protocols import Prepared
from load.core.sender import AsyncClient, Sample, send_async
from load.core.workload import Question

DEADLINE = 30.0  # seconds for an answer
GRACE = 5.0  # on top, for an answer on its way when the deadline passes; then the request hangs
REST = 0.05  # seconds that a client of a closed loop waits after a refusal: asking again at once would be a flood
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Result:
    """All requests of a run, and which part of it counts: from `begin` to `end`, after the warm-up.

    `wall_seconds` is the whole run, warm-up and last answers included, as the server's own counters see it.
    """

    samples: Sequence[Sample]
    begin: float
    end: float
    wall_seconds: float

    @property
    def seconds(self) -> float:
        """The length of the part that counts."""
        return self.end - self.begin

    @property
    def counted(self) -> list[Sample]:
        """The requests that began in the part that counts."""
        return [sample for sample in self.samples if self.begin <= sample.started < self.end]

    def counts(self) -> dict[Outcome, int]:
        """Requests by how they ended, all outcomes present; of the part that counts."""
        return count_outcomes(self.counted)

    def totals(self) -> dict[Outcome, int]:
        """The same of the whole run, warm-up included."""
        return count_outcomes(self.samples)

    def notes(self, most: int = 5) -> list[str]:
        """The most frequent things that went wrong, in words."""
        found = Counter(f"{sample.outcome}: {sample.note}" for sample in self.samples if sample.note)
        return [f"{count}x {note}" for note, count in found.most_common(most)]

    @property
    def goodput(self) -> float:
        """Items rightly answered per second: those whose answers came within the part that counts."""
        return sum(sample.items for sample in self._good()) / self.seconds

    @property
    def steady_rate(self) -> float:
        """The same for load that is steady, as the slope of a line through the finished items: 0.0 with fewer than two.

        Answers come in whole batches, and counting them between two moments is off by as much as a batch at either end.
        """
        good = sorted(self._good(), key=lambda sample: sample.finished)
        if len(good) < 2 or good[0].finished == good[-1].finished:
            return 0.0
        moments = np.array([sample.finished for sample in good])
        return float(np.polyfit(moments - moments[0], np.cumsum([sample.items for sample in good]), 1)[0])

    def latency_ms(self, outcome: Outcome = Outcome.ANSWERED) -> dict[str, float] | None:
        """p50, p95, p99 and max in milliseconds of the requests that ended so; None where none did."""
        taken = [1000 * sample.latency for sample in self.counted if sample.outcome is outcome]
        return percentiles(taken) if taken else None

    def to_json(self) -> dict[str, Any]:
        """What a report keeps."""
        return {
            "seconds": round(self.seconds, 3),
            "counts": {outcome.value: count for outcome, count in self.counts().items()},
            "goodput_per_s": round(self.goodput, 3),
            "steady_rate_per_s": round(self.steady_rate, 3),
            "answered_ms": self.latency_ms(),
            "refused_ms": self.latency_ms(Outcome.REFUSED),
            "notes": self.notes(),
        }

    def _good(self) -> list[Sample]:
        answered = [sample for sample in self.samples if sample.outcome is Outcome.ANSWERED]
        return [sample for sample in answered if self.begin <= sample.finished <= self.end]


def together(results: Iterable[Result]) -> Result:
    """Several runs as one."""
    found = list(results)
    samples = [sample for result in found for sample in result.samples]
    begin, end = min(result.begin for result in found), max(result.end for result in found)
    return Result(samples, begin, end, sum(result.wall_seconds for result in found))


class Generator:
    """Questions for a client, asked in turn and, where they are a list, from the beginning again.

    `was_killed` says, when a connection breaks, whether the server had been killed just then: such requests are lost,
    others failed. A request that has no answer after `deadline` and `grace` seconds hangs.
    """

    def __init__(
        self,
        client: AsyncClient,
        questions: Iterable[Question],
        *,
        deadline: float = DEADLINE,
        grace: float = GRACE,
        was_killed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        asked = ((client.prepare(question.operation), question.check) for question in questions)
        # A list is prepared once and comes round again; what is made as it goes on has no end.
        self._asked = itertools.cycle(list(asked)) if isinstance(questions, Sequence) else asked
        self._patience = deadline + grace
        self._was_killed = was_killed

    async def closed_loop(self, clients: int, seconds: float, warm_up: float = 1.0) -> Result:
        """So many clients for so many seconds after the warm-up."""
        samples: list[Sample] = []
        started = time.perf_counter()
        end = started + warm_up + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                sample = await self.ask(*next(self._asked), time.perf_counter())
                samples.append(sample)
                if sample.outcome is not Outcome.ANSWERED:
                    await asyncio.sleep(REST)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
        return Result(samples, started + warm_up, end, time.perf_counter() - started)

    async def open_loop(self, rate: float, seconds: float, warm_up: float = 1.0, seed: int = 0) -> Result:
        """Requests at a mean rate per second; the same seed gives the same arrivals."""
        samples: list[Sample] = []
        started = time.perf_counter()

        async def one(due: float) -> None:
            samples.append(await self.ask(*next(self._asked), due))

        async with asyncio.TaskGroup() as group:
            for arrival in arrivals(rate, warm_up + seconds, seed):
                due = started + arrival
                await asyncio.sleep(max(0.0, due - time.perf_counter()))  # at 0 too: those that are due get their turn
                group.create_task(one(due))
        begin = started + warm_up
        return Result(samples, begin, begin + seconds, time.perf_counter() - started)

    async def ask(self, request: Prepared, check: Check, started: float) -> Sample:
        """Send one request and say how it ended; `started` is when its latency begins."""
        return await send_async(self._client, request, check, self._patience, started, self._was_killed)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process from 0 to `seconds`, at a mean of `rate` per second."""
    generator = np.random.default_rng(seed)
    moments: list[float] = []
    moment = float(generator.exponential(1 / rate))
    while moment < seconds:
        moments.append(moment)
        moment += float(generator.exponential(1 / rate))
    return moments


def count_outcomes(samples: Iterable[Sample]) -> dict[Outcome, int]:
    """Requests by how they ended, all outcomes present."""
    found = Counter(sample.outcome for sample in samples)
    return {outcome: found[outcome] for outcome in Outcome}


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max."""
    values = np.percentile(milliseconds, PERCENTILES)
    found = {f"p{percent}": round(float(value), 3) for percent, value in zip(PERCENTILES, values, strict=True)}
    return found | {"max": round(max(milliseconds), 3)}
