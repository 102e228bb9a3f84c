"""The capacity report as a JSON document; Markdown and charts are made of it alone.

Keys are stable: programs read them. Times are milliseconds, rates are items (images or texts) per second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from load.capacity.deployment import Deployment, Embedded
from load.capacity.meter import Step
from load.capacity.stages import limiting_stage, split, utilisation
from load.capacity.workload import Workload
from load.core.knee import RULE, find_knee
from load.core.machine import describe_machine
from load.core.triton_stats import Counters

FORMAT = 2  # 1 had `picture` in place of `image`


def describe(deployment: Deployment, workload: Workload) -> dict[str, Any]:
    """What was measured, and on which machine."""
    manifest = deployment.manifest
    return {
        "format": FORMAT,
        "variant": manifest.variant,
        "precision": manifest.precision,
        "random_weights": manifest.random_weights,
        "fingerprint": manifest.fingerprint,
        "task": workload.task,
        "encoder": workload.encoder,
        "unit": workload.unit,
        "items_per_request": workload.per_request,
        "image": None if workload.task == "embed_text" else asdict(workload.spec),
        "deployment": "embedded" if isinstance(deployment, Embedded) else deployment.grpc_url,
        "instances": dict(deployment.instances),
        "machine": describe_machine(),
    }


def step_json(step: Step, workload: Workload, instances: Mapping[str, int]) -> dict[str, Any]:
    """One step: what the client saw, what Triton counted, and where the time went."""
    used = utilisation(step, instances)
    return {
        **asdict(step.load),
        "client": step.result.to_json(),
        "sent": {outcome.value: count for outcome, count in step.result.totals().items()},
        "counted_all": step.counted_all(workload.task),
        "models": {name: _model_json(counters, used.get(name)) for name, counters in step.counters.items()},
        "split_ms": split(step, workload.task),
    }


def findings(closed: Sequence[Step], instances: Mapping[str, int]) -> dict[str, Any]:
    """The knee of a sweep of concurrency, and what limits throughput there."""
    # What the knee looks at is goodput in items; every request of a sweep has the same number of them.
    points = [(step.load.concurrency or 0, step.result.goodput) for step in closed]
    knee = find_knee(points)
    limit = limiting_stage(closed[knee.index], instances)
    return {
        "knee": {
            "concurrency": knee.concurrency,
            "goodput_per_s": round(knee.goodput, 3),
            "latency_ms": closed[knee.index].result.latency_ms(),
            "at_the_edge": knee.at_the_edge,
            "rule": RULE,
        },
        "limiting_stage": None if limit is None else asdict(limit),
    }


def _model_json(counters: Counters, used: float | None) -> dict[str, Any]:
    return {
        **{name: getattr(counters, name) for name in ("requests", "refused", "items", "executions", "cache_hits")},
        "mean_batch": round(counters.mean_batch, 3),
        "executions_by_batch": {str(size): count for size, count in counters.executions_by_batch.items()},
        "request_ms": round(counters.mean_total_ms, 3),
        "queue_ms": round(counters.mean_ms("queue"), 3),
        "compute_ms": round(sum(counters.mean_ms(f"compute_{part}") for part in ("input", "infer", "output")), 3),
        "busy_seconds": round(counters.busy_seconds, 3),
        "utilisation": None if used is None else round(used, 4),
    }
