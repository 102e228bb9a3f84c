"""Steps of load with what Triton counted during each, to be measured again and again."""

import statistics
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field

from load.capacity.deployment import STAGES, Deployment
from load.capacity.workload import Load, Questions
from load.core.checks import Outcome
from load.core.clients_asyncio import GrpcClient
from load.core.generator import Generator, Result
from load.core.sender import AsyncClient
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

    @property
    def stages(self) -> dict[str, Counters]:
        """The counters of the stages that had requests, in the order of a request."""
        return {stage: self.counters[stage] for stage in STAGES if stage in self.counters}

    def counted_all(self, model: str) -> bool:
        """Whether Triton counted just the requests that were answered here: else somebody else was asking too."""
        totals = self.result.totals()
        return self.counters.get(model, Counters()).requests == totals[Outcome.ANSWERED] + totals[Outcome.WRONG]


@dataclass
class Meter:
    """A load on a deployment that can be measured again and again; `steps` has every measurement."""

    generator: Generator
    statistics: Statistics
    load: Load
    seconds: float
    steps: list[Step] = field(default_factory=list)

    async def __call__(self) -> float:
        """Items rightly answered per second."""
        return (await self.step(self.load)).result.steady_rate

    async def step(self, load: Load) -> Step:
        """One step of a load, after a warm-up."""
        before = self.statistics.read()
        result = await load.run(self.generator, self.seconds, max(LEAST_WARM_UP, WARM_UP_SHARE * self.seconds))
        self.steps.append(Step(load, result, between(before, self.statistics.read())))
        return self.steps[-1]

    def mean_batch(self, model: str) -> float:
        """Of all measurements together."""
        done = [step.counters[model] for step in self.steps if model in step.counters]
        executions = sum(counters.executions for counters in done)
        return round(sum(counters.items for counters in done) / executions, 3) if executions else 0.0

    def latency_ms(self, name: str) -> float:
        """The median, over the measurements, of a percentile of right answers; 0.0 where there were none."""
        found = [latency[name] for step in self.steps if (latency := step.result.latency_ms())]
        return round(statistics.median(found), 3) if found else 0.0

    def outcomes(self) -> dict[str, int]:
        """Requests by how they ended, of all measurements together."""
        totals = [step.result.totals() for step in self.steps]
        return {outcome.value: sum(total[outcome] for total in totals) for outcome in Outcome}

    def notes(self) -> list[str]:
        """What went wrong, in words."""
        return [note for step in self.steps for note in step.result.notes()]


async def open_meter(
    stack: AsyncExitStack,
    deployment: Deployment,
    questions: Questions,
    load: Load,
    seconds: float,
    client: AsyncClient | None = None,
) -> Meter:
    """A meter of this load on a deployment, over gRPC where no other client is given; the stack closes it."""
    client = client or GrpcClient(deployment.grpc_url)
    stack.push_async_callback(client.close)
    statistics = stack.enter_context(closing(Statistics(deployment.grpc_url)))
    return Meter(Generator(client, await questions(client, deployment.manifest)), statistics, load, seconds)
