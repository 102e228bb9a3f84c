"""What serving costs and what batching gives: measurements in turn, at one concurrency.

with_bare       the bare encoder, and the same load over gRPC, over HTTP and through the gateway
with_unbatched  the same load on two servers, one of which runs each request alone
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from load.capacity.baseline import BareEncoder, random_image
from load.capacity.deployment import Deployment, Embedded, embedded
from load.capacity.repositories import without_batching
from load.capacity.rounds import in_turn, ratio
from load.capacity.sweep import Step, run_step
from load.capacity.workload import Load, Work
from load.core.checks import Outcome
from load.core.clients_asyncio import GatewayTarget, GrpcTarget, HttpTarget, Target
from load.core.generator import Traffic
from load.core.knee import NotMeasurable
from load.core.triton_stats import Statistics
from tritonclip_server.embedded.gateway import Gateway, items_in_flight

Say = Callable[[str], None]


@dataclass
class Meter:
    """A load that can be measured again and again; `steps` has every measurement."""

    traffic: Traffic
    statistics: Statistics
    load: Load
    seconds: float
    steps: list[Step] = field(default_factory=list)

    async def __call__(self) -> float:
        """Items rightly answered per second."""
        self.steps.append(await run_step(self.traffic, self.statistics, self.load, self.seconds))
        return self.steps[-1].result.steady_rate

    def mean_batch(self, model: str) -> float:
        """Of all measurements together."""
        done = [step.counters[model] for step in self.steps if model in step.counters]
        executions = sum(counters.executions for counters in done)
        return sum(counters.items for counters in done) / executions if executions else 0.0

    def p95_ms(self) -> float:
        """The median, over the measurements, of the 95th percentile of right answers; 0.0 where there were none."""
        found = [latency["p95"] for step in self.steps if (latency := step.result.latency_ms())]
        return median(found) if found else 0.0

    def outcomes(self) -> dict[str, int]:
        """Requests by how they ended, of all measurements together."""
        return count_outcomes(self.steps)

    def notes(self) -> list[str]:
        """What went wrong, in words."""
        return [note for step in self.steps for note in step.result.notes()]


def count_outcomes(steps: Iterable[Step]) -> dict[str, int]:
    """Requests of all steps by how they ended, warm-ups included."""
    totals = [step.result.totals() for step in steps]
    return {outcome.value: sum(total[outcome] for total in totals) for outcome in Outcome}


@asynccontextmanager
async def meter(
    deployment: Deployment, work: Work, load: Load, seconds: float, target: Target | None = None
) -> AsyncIterator[Meter]:
    """A meter of this load on a deployment, over gRPC where no other target is given."""
    target = target or GrpcTarget(deployment.grpc_url)
    statistics = Statistics(deployment.grpc_url)
    try:
        questions = await work.questions(target, deployment.manifest)
        yield Meter(Traffic(target, questions), statistics, load, seconds)
    finally:
        statistics.close()
        await target.close()


async def with_bare(
    deployment: Embedded, work: Work, load: Load, rounds: int, seconds: float, say: Say
) -> dict[str, Any]:
    """Served ÷ bare, for each way in, of requests to embed images."""
    image_size = deployment.manifest.image_size
    if image_size is None:
        raise NotMeasurable("the manifest does not say the image size, which the bare encoder needs")
    bare = BareEncoder(deployment.repository / "image_encoder" / "1" / "model.pt", random_image(image_size))
    try:
        say("bare encoder at each batch size")
        by_batch = bare.find_best_batch()

        async def bare_rate() -> float:
            return bare.items_per_s(seconds)  # nothing else is to run meanwhile

        with Gateway(deployment.grpc_url, 0, items_in_flight(deployment.repository)) as gateway:
            async with AsyncExitStack() as stack:
                meters = {
                    target.name: await stack.enter_async_context(meter(deployment, work, load, seconds, target))
                    for target in (
                        GrpcTarget(deployment.grpc_url),
                        HttpTarget(deployment.http_url),
                        GatewayTarget(gateway.url),
                    )
                }
                rates = await in_turn({"bare": bare_rate, **meters}, rounds, say)
    finally:
        bare.close()
    return {
        "rounds": rounds,
        "images_per_s": {name: [round(rate, 2) for rate in found] for name, found in rates.items()},
        "bare_best_batch": bare.batch_size,
        "bare_images_per_s_by_batch": {str(size): round(rate, 2) for size, rate in by_batch.items()},
        "served_over_bare": {name: ratio(rates[name], rates["bare"]).to_json() for name in meters},
        "outcomes": {name: found.outcomes() for name, found in meters.items()},
        "notes": {name: found.notes() for name, found in meters.items()},
    }


async def with_unbatched(
    deployment: Embedded, work: Work, load: Load, rounds: int, seconds: float, log: Path, say: Say
) -> dict[str, Any]:
    """The deployment as it is ÷ the same without dynamic batching in any stage."""
    with without_batching(deployment.repository) as copy, embedded(copy, log) as unbatched:
        async with (
            meter(deployment, work, load, seconds) as on,
            meter(unbatched, work, load, seconds) as off,
        ):
            rates = await in_turn({"on": on, "off": off}, rounds, say)
    return {
        "rounds": rounds,
        f"{work.unit}_per_s": {name: [round(rate, 2) for rate in found] for name, found in rates.items()},
        "on_over_off": ratio(rates["on"], rates["off"]).to_json(),
        "mean_batch": {name: round(m.mean_batch(work.encoder), 3) for name, m in (("on", on), ("off", off))},
        "p95_ms": {"on": on.p95_ms(), "off": off.p95_ms()},
        "outcomes": {"on": on.outcomes(), "off": off.outcomes()},
        "notes": {"on": on.notes(), "off": off.notes()},
    }
