"""Triton's own counters, between two moments: what it did, in which batches, and where the time of requests went.

    before = statistics.read() ── load ── after = statistics.read() ─> after[model] - before[model]

Triton sums durations twice. By request: each request of a batch counts the whole execution, so these tell what a
request lived through. By execution: these tell how long instances were busy. Seconds, everywhere.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonclip.protocol import Connection, StatisticsRequest, parse_url, resolve_admin_key
from tritonclip.protocol.grpc_transport import metadata, open_channel
from tritonclip.protocol.names import own_models

TIMEOUT = 30.0
SETTLE_SECONDS = 0.2
SETTLE_TRIES = 5
PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Counters:
    """What one model has counted.

    `requests` succeeded and `refused` did not; `items` are those of executed requests, in `executions` batches, which
    kept instances busy for `busy_seconds`, all together. `total` is the seconds of successful requests from end to
    end, `parts` the same by part, both summed over requests.
    """

    requests: int = 0
    refused: int = 0
    items: int = 0
    executions: int = 0
    cache_hits: int = 0
    total: float = 0.0
    busy_seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    executions_by_batch: Mapping[int, int] = field(default_factory=dict)

    def __sub__(self, earlier: "Counters") -> "Counters":
        parts = {part: seconds - earlier.parts.get(part, 0.0) for part, seconds in self.parts.items()}
        sizes = Counter(self.executions_by_batch) - Counter(earlier.executions_by_batch)
        plain = {
            name: value - getattr(earlier, name) for name, value in vars(self).items() if isinstance(value, int | float)
        }
        return Counters(**plain, parts=parts, executions_by_batch=dict(sorted(sizes.items())))

    @property
    def mean_batch(self) -> float:
        """Items in an execution; 0.0 where there was none."""
        return self.items / self.executions if self.executions else 0.0

    def mean_ms(self, part: str) -> float:
        """Milliseconds of a request in one of PARTS; 0.0 where there was none."""
        return 1000 * self.parts.get(part, 0.0) / self.requests if self.requests else 0.0

    @property
    def mean_total_ms(self) -> float:
        """Milliseconds of a request from end to end; 0.0 where there was none."""
        return 1000 * self.total / self.requests if self.requests else 0.0


class Statistics:
    """Reads the counters of a server; `url` is grpc://HOST:PORT, with ?model=NAME where it carries several.

    A restricted server's key is TRITONCLIP_ADMIN_KEY.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._model = parsed.model
        connection = Connection(parsed, admin_key=resolve_admin_key(None))
        self._channel = open_channel(connection)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._metadata = metadata(StatisticsRequest(), connection)

    def read(self) -> dict[str, Counters]:
        """The counters since each model was loaded, by its name without the one that all of them go by.

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
        own = own_models((entry.name for entry in answer.model_stats), self._model)
        return {own[entry.name]: _counters(entry) for entry in answer.model_stats if entry.name in own}

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def between(before: Mapping[str, Counters], after: Mapping[str, Counters]) -> dict[str, Counters]:
    """What each model that had any request did between two readings."""
    changes = {model: counters - before.get(model, Counters()) for model, counters in after.items()}
    return {model: change for model, change in changes.items() if change.requests or change.refused}


def _counters(entry: Any) -> Counters:
    stats, batches = entry.inference_stats, entry.batch_stats
    busy = sum(each.compute_input.ns + each.compute_infer.ns + each.compute_output.ns for each in batches)
    return Counters(
        requests=stats.success.count,
        refused=stats.fail.count,
        items=entry.inference_count,
        executions=entry.execution_count,
        cache_hits=stats.cache_hit.count,
        total=stats.success.ns / 1e9,
        busy_seconds=busy / 1e9,
        parts={part: getattr(stats, part).ns / 1e9 for part in PARTS},
        executions_by_batch={batch.batch_size: batch.compute_infer.count for batch in batches},
    )
