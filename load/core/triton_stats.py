"""Triton's own counters, between two moments: what it did, in which batches, and where the time of requests went.

    before = statistics.read() ── load ── after = statistics.read() ─> after[model] - before[model]

Triton sums durations twice. By request: each request of a batch counts the whole execution, so these tell what a
request lived through. By execution (`batches`): these tell how long instances were busy. Seconds, everywhere.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip.protocol import Connection, StatisticsRequest, parse_url, resolve_admin_key
from tritonclip.protocol.grpc_transport import metadata, open_channel

TIMEOUT = 30.0
SETTLE_SECONDS = 0.2
SETTLE_TRIES = 5
PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Batches:
    """Executions of one batch size, and how long they kept an instance busy, in all."""

    executions: int = 0
    seconds: float = 0.0

    def __sub__(self, earlier: "Batches") -> "Batches":
        return Batches(self.executions - earlier.executions, self.seconds - earlier.seconds)


@dataclass(frozen=True)
class Counters:
    """What one model has counted.

    `requests` succeeded and `refused` did not; `items` are those of executed requests, in `executions` batches.
    `total` is the seconds of successful requests from end to end, `parts` the same by part, both summed over requests.
    """

    requests: int = 0
    refused: int = 0
    items: int = 0
    executions: int = 0
    cache_hits: int = 0
    total: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[int, Batches] = field(default_factory=dict)

    def __sub__(self, earlier: "Counters") -> "Counters":
        sizes = {size: now - earlier.batches.get(size, Batches()) for size, now in self.batches.items()}
        plain = ("requests", "refused", "items", "executions", "cache_hits", "total")
        change = {name: getattr(self, name) - getattr(earlier, name) for name in plain}
        change["parts"] = {part: seconds - earlier.parts.get(part, 0.0) for part, seconds in self.parts.items()}
        change["batches"] = {size: batches for size, batches in sorted(sizes.items()) if batches.executions}
        return Counters(**change)

    @property
    def mean_batch(self) -> float:
        """Items in an execution; 0.0 where there was none."""
        return self.items / self.executions if self.executions else 0.0

    @property
    def busy_seconds(self) -> float:
        """How long its instances executed, all together."""
        return sum(batches.seconds for batches in self.batches.values())

    def mean_ms(self, part: str) -> float:
        """Milliseconds of a request in one of PARTS; 0.0 where there was none."""
        return 1000 * self.parts.get(part, 0.0) / self.requests if self.requests else 0.0

    @property
    def mean_total_ms(self) -> float:
        """Milliseconds of a request from end to end; 0.0 where there was none."""
        return 1000 * self.total / self.requests if self.requests else 0.0


class Statistics:
    """Reads the counters of a server; `url` is grpc://HOST:PORT. A restricted server's key is TRITONCLIP_ADMIN_KEY."""

    def __init__(self, url: str) -> None:
        self._channel = open_channel(Connection(parse_url(url)))
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._metadata = metadata(StatisticsRequest(), resolve_admin_key(None))

    def read(self) -> dict[str, Counters]:
        """The counters since each model was loaded, by its name.

        Triton counts a request a moment after it has answered it: this waits until nothing changes any more, or, where
        others keep asking, a few moments.
        """
        counters = self._read()
        for _ in range(SETTLE_TRIES):
            time.sleep(SETTLE_SECONDS)
            earlier, counters = counters, self._read()
            if counters == earlier:
                break
        return counters

    def _read(self) -> dict[str, Counters]:
        answer = self._stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=TIMEOUT, metadata=self._metadata)
        return {entry.name: _counters(entry) for entry in answer.model_stats}

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def between(before: Mapping[str, Counters], after: Mapping[str, Counters]) -> dict[str, Counters]:
    """What each model that had any request did between two readings."""
    changes = {model: counters - before.get(model, Counters()) for model, counters in after.items()}
    return {model: change for model, change in changes.items() if change.requests or change.refused}


def _counters(entry: Any) -> Counters:
    stats = entry.inference_stats
    return Counters(
        stats.success.count,
        stats.fail.count,
        entry.inference_count,
        entry.execution_count,
        stats.cache_hit.count,
        stats.success.ns / 1e9,
        {part: getattr(stats, part).ns / 1e9 for part in PARTS},
        {
            batch.batch_size: Batches(
                batch.compute_infer.count,
                (batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns) / 1e9,
            )
            for batch in entry.batch_stats
        },
    )
