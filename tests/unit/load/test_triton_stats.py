"""Triton's statistics are read as Triton means them, and differences are of what happened in between."""

import pytest
from tritonclient.grpc import service_pb2 as pb

from load.core.triton_stats import Counters, _counters, between


def statistics(requests: int, batches: dict[int, int]) -> pb.ModelStatistics:
    """A model of which each request waited 1 ms and computed 4 ms, and each execution took 3 ms."""
    entry = pb.ModelStatistics(
        name="image_encoder",
        inference_count=sum(size * count for size, count in batches.items()),
        execution_count=sum(batches.values()),
    )
    stats = entry.inference_stats
    stats.success.count, stats.success.ns = requests, requests * 5_500_000
    stats.fail.count = 2
    stats.queue.ns, stats.compute_infer.ns = requests * 1_000_000, requests * 4_000_000
    stats.compute_output.ns = requests * 500_000
    for size, count in batches.items():
        batch = entry.batch_stats.add(batch_size=size)
        batch.compute_infer.count, batch.compute_infer.ns = count, count * 2_000_000
        batch.compute_input.count, batch.compute_input.ns = count, count * 1_000_000
    return entry


def test_reading() -> None:
    counters = _counters(statistics(10, {1: 2, 4: 2}))
    assert (counters.requests, counters.refused, counters.items, counters.executions) == (10, 2, 10, 4)
    assert counters.mean_batch == 2.5
    assert counters.mean_ms("queue") == 1
    assert counters.mean_ms("compute_infer") == 4
    assert counters.mean_total_ms == 5.5
    assert counters.executions_by_batch == {1: 2, 4: 2}
    assert counters.busy_seconds == pytest.approx(0.012), "once for each execution, however many requests it had"


def test_between_two_readings() -> None:
    before = {"image_encoder": _counters(statistics(10, {1: 2, 4: 2})), "idle": Counters(requests=3)}
    after = {
        "image_encoder": _counters(statistics(26, {1: 2, 4: 3, 12: 1})),
        "idle": Counters(requests=3),
        "new": Counters(requests=1, items=1, executions=1),
    }
    change = between(before, after)
    assert set(change) == {"image_encoder", "new"}
    encoder = change["image_encoder"]
    assert (encoder.requests, encoder.refused, encoder.items, encoder.executions) == (16, 0, 16, 2)
    assert encoder.mean_batch == 8
    assert encoder.executions_by_batch == {4: 1, 12: 1}
    assert encoder.busy_seconds == pytest.approx(0.006)
    assert encoder.mean_ms("queue") == pytest.approx(1)


def test_nothing_happened() -> None:
    assert Counters().mean_batch == Counters().mean_ms("queue") == Counters().mean_total_ms == 0
