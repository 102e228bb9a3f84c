"""The benchmark reports what it says it does. How large the figures are is for its readers, not for tests."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import load.capacity.baseline
from load.capacity.baseline import BareEncoder, random_image
from load.capacity.bench import Bench, jpegs, measure, print_table
from load.capacity.label_sets import publish_random_heads
from load.capacity.measure import latencies, throughput
from load.capacity.text_rates import measure_texts
from load.core.machine import describe_machine
from tests.serving import start
from tritonclip import Client

pytestmark = pytest.mark.alone


def test_it_measures_served_and_bare_in_one_run(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Path(shutil.copytree(tiny_repository, tmp_path / "served"))
    publish_random_heads(repository, width=64)
    monkeypatch.setattr(load.capacity.baseline, "PROBE_SECONDS", 0.1)
    bare = BareEncoder(repository / "image_encoder" / "1" / "model.pt", random_image(64))
    server = start(repository, tmp_path / "log")
    try:
        with Client(server.grpc_url) as client:
            bench = Bench(server, client, jpegs(), seconds=1.0)
            results = measure(bench, bare)
            results |= measure_texts(
                repository / "text_encoder" / "1" / "model.pt",
                77,
                lambda: throughput(bench.embed_new_text, clients=4, seconds=0.5),
                rounds=3,
                seconds=0.2,
                say=lambda line: None,
            )
    finally:
        bare.close()
        server.stop()
    assert results["efficiency"] == pytest.approx(
        results["served_images_per_s"] / results["bare_images_per_s"], rel=0.01
    )
    assert len(results["efficiency_by_round"]) == 3
    assert results["mean_batch"] >= 1
    assert set(results["latency_at_concurrency_1"]) == {"p50_ms", "p95_ms", "p99_ms"}
    assert results["text_efficiency"] == pytest.approx(results["texts_per_s"] / results["bare_texts_per_s"], rel=0.01)
    assert results["short_text_ratio"] == pytest.approx(
        results["texts_per_s"] / results["bare_whole_texts_per_s"], rel=0.01
    )
    assert results["bare_texts_per_s_by_batch"].keys() == results["bare_images_per_s_by_batch"].keys()
    assert results["cached_texts_per_s"] > 0
    assert list(results["label_set_cost_ratio"]) == [10, 100, 1000, 10_000]
    assert results["label_set_cost_ratio_1000"] == results["label_set_cost_ratio"][1000] > 0
    assert results["label_set_ms"][1000] == pytest.approx(1000 / results["label_set_images_per_s_1000"], rel=0.01)
    assert results["prompts_images_per_s_1000"] > 0
    assert results["gateway_efficiency"] == pytest.approx(
        results["gateway_images_per_s"] / results["gateway_direct_images_per_s"], rel=0.01
    )
    assert len(results["gateway_efficiency_by_round"]) == 3
    assert set(results["gateway_added_latency"]) == {"p50_ms", "p99_ms"}
    results |= {"variant": "tiny", "precision": "fp32", "machine": describe_machine()}
    assert json.loads(json.dumps(results))["machine"]["cores"] >= 1
    print_table(results)
    printed = capsys.readouterr().out
    assert f"{results['efficiency']:.3f} served / bare" in printed
    assert f"{results['text_efficiency']:.3f} served / bare" in printed
    assert f"{results['gateway_efficiency']:.3f} of gRPC" in printed


def test_a_failing_call_fails_the_measurement() -> None:
    def call(number: int) -> None:
        raise ValueError(f"call {number}")

    with pytest.raises(ValueError, match="call 0"):
        throughput(call, clients=1, seconds=0.1, warm_up=0)


def test_percentiles_are_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.cumsum([0] + [value for ms in range(1, 101) for value in (ms / 1000, 0)]))
    monkeypatch.setattr("load.capacity.measure.time.perf_counter", lambda: float(next(ticks)))
    assert latencies(lambda number: None, 100) == {"p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01}
