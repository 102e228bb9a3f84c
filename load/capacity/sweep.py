"""Steps of load against one deployment, with what Triton counted during each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from load.capacity.workload import Load
from load.core.checks import Outcome
from load.core.clients_asyncio import Target
from load.core.generator import Result, Traffic
from load.core.questions import Question
from load.core.triton_stats import Counters, Statistics, between

WARM_UP_SHARE = 0.2  # of a step's length, before it
LEAST_WARM_UP = 0.5


@dataclass(frozen=True)
class Step:
    """One load, its requests as the client saw them, and as Triton counted them, warm-up included in its counters."""

    load: Load
    result: Result
    counters: Mapping[str, Counters]

    @property
    def client_ms(self) -> float:
        """Mean milliseconds of the right answers as the client saw them, warm-up included as in the counters."""
        taken = [sample.latency for sample in self.result.samples if sample.outcome is Outcome.ANSWERED]
        return 1000 * sum(taken) / len(taken) if taken else 0.0

    def counted_all(self, model: str) -> bool:
        """Whether Triton counted just the requests that were answered here: else somebody else was asking too."""
        totals = self.result.totals()
        return self.counters.get(model, Counters()).requests == totals[Outcome.ANSWERED] + totals[Outcome.WRONG]


async def sweep(
    target: Target,
    questions: Iterable[Question],
    statistics: Statistics,
    loads: Sequence[Load],
    seconds: float,
    say: Callable[[str], None],
) -> list[Step]:
    """One step for each load, one after the other."""
    traffic = Traffic(target, questions)
    steps = []
    for load in loads:
        say(f"{load}")
        steps.append(await run_step(traffic, statistics, load, seconds))
    return steps


async def run_step(traffic: Traffic, statistics: Statistics, load: Load, seconds: float) -> Step:
    """One step of so many seconds after a warm-up."""
    before = statistics.read()
    result = await load.run(traffic, seconds, max(LEAST_WARM_UP, WARM_UP_SHARE * seconds))
    return Step(load, result, between(before, statistics.read()))
