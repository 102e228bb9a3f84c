"""Where the time of a request goes, and which stage limits throughput.

    client's latency = network and client + server's time
    server's time    = for each stage (queue + compute) + the ensemble's own handing over

With branches that run side by side (`compare` on a GPU host) the stages may sum to more than the server's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from load.capacity.deployment import STAGES
from load.capacity.sweep import Step
from load.core.triton_stats import PARTS, Counters


@dataclass(frozen=True)
class Split:
    """Mean milliseconds of a request: `client` in all, `server` of that; of that `stages`, by stage and PARTS."""

    client: float
    server: float
    stages: Mapping[str, Mapping[str, float]]

    @property
    def network_and_client(self) -> float:
        """What the server did not see."""
        return self.client - self.server

    @property
    def handing_over(self) -> float:
        """What the server spent between its stages."""
        return self.server - sum(sum(parts.values()) for parts in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """Milliseconds, rounded."""
        return {
            "client": round(self.client, 3),
            "server": round(self.server, 3),
            "network_and_client": round(self.network_and_client, 3),
            "handing_over": round(self.handing_over, 3),
            "stages": {
                stage: {part: round(value, 3) for part, value in parts.items()} for stage, parts in self.stages.items()
            },
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


def split(step: Step, ensemble: str) -> Split:
    """The mean time of a step's requests to an ensemble."""
    return Split(
        step.client_ms,
        step.counters.get(ensemble, Counters()).mean_total_ms,
        {
            stage: {part: step.counters[stage].mean_ms(part) for part in PARTS}
            for stage in STAGES
            if stage in step.counters
        },
    )


def utilisation(step: Step, instances: Mapping[str, int]) -> dict[str, float]:
    """The share of its instances' time that each stage computed, 0 to 1; of stages whose instances are known."""
    return {
        stage: step.counters[stage].busy_seconds / (instances[stage] * step.result.wall_seconds)
        for stage in STAGES
        if stage in step.counters and stage in instances
    }


def limiting_stage(step: Step, instances: Mapping[str, int]) -> Limit | None:
    """The stage with the greatest utilisation or, where instances are not known, the longest wait; None without any."""
    stages = [stage for stage in STAGES if stage in step.counters]
    if not stages:
        return None
    used = utilisation(step, instances)
    waits = {stage: step.counters[stage].mean_ms("queue") for stage in stages}
    if used:
        stage = max(used, key=lambda name: used[name])
        others = ", ".join(f"{name} {used[name]:.0%}" for name in used if name != stage)
        reason = f"its instances computed {used[stage]:.0%} of the time ({others or 'it is the only stage'})"
    else:
        stage = max(waits, key=lambda name: waits[name])
        reason = "requests waited longest for it; how many instances there are is not known"
    return Limit(stage, used.get(stage), waits[stage], f"{reason}, and a request waited {waits[stage]:.1f} ms for it")
