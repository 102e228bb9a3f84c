"""Where the time of a request goes, and which stage limits throughput.

    client's latency = network and client + server's time
    server's time    = for each stage (queue + compute) + the ensemble's own handing over

With branches that run side by side (`compare` on a GPU host) the stages may sum to more than the server's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from load.capacity.meter import Step
from load.core.triton_stats import PARTS, Counters


def split(step: Step, ensemble: str) -> dict[str, Any]:
    """The mean time of a step's requests to an ensemble, in milliseconds, by part; of the server's, by stage."""
    server = step.counters.get(ensemble, Counters()).mean_total_ms
    stages = {
        stage: {part: round(counters.mean_ms(part), 3) for part in PARTS} for stage, counters in step.stages.items()
    }
    return {
        "client": round(step.client_ms, 3),
        "server": round(server, 3),
        "network_and_client": round(step.client_ms - server, 3),
        "handing_over": round(server - sum(sum(parts.values()) for parts in stages.values()), 3),
        "stages": stages,
    }


@dataclass(frozen=True)
class Limit:
    """The stage that limits throughput, and why it is thought so.

    `utilisation` is the share of its instances' time that it computed, where their number is known; `queue_ms` what a
    request waited for it.
    """

    stage: str
    utilisation: float | None
    queue_ms: float
    reason: str


def utilisation(step: Step, instances: Mapping[str, int]) -> dict[str, float]:
    """The share of its instances' time that each stage computed, 0 to 1; of stages whose instances are known."""
    return {
        stage: counters.busy_seconds / (instances[stage] * step.result.wall_seconds)
        for stage, counters in step.stages.items()
        if stage in instances
    }


def limiting_stage(step: Step, instances: Mapping[str, int]) -> Limit | None:
    """The stage with the greatest utilisation or, where instances are not known, the longest wait; None without any."""
    waits = {stage: counters.mean_ms("queue") for stage, counters in step.stages.items()}
    if not waits:
        return None
    used = utilisation(step, instances)
    stage = max(used or waits, key=lambda name: (used or waits)[name])
    reason = "requests waited longest for it; how many instances there are is not known"
    if used:
        others = ", ".join(f"{name} {used[name]:.0%}" for name in used if name != stage)
        reason = f"its instances computed {used[stage]:.0%} of the time ({others or 'it is the only stage'})"
    return Limit(stage, used.get(stage), waits[stage], f"{reason}, and a request waited {waits[stage]:.1f} ms for it")
