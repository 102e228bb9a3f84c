"""What Triton is scaled by: the chart's own queries, asked of a real Prometheus' engine, and whom they are told to."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.helm_chart import NAMESPACE, RELEASE, ROOT, SETS, Object, of_kind
from tests.prometheus import promtool
from tests.promql import ALERTS, CONFIG, alert_expressions, metric_names, named_metrics

SCALED = ("keda", "zero")
MODEL = "clip"


def triggers(name: str, model: str = MODEL) -> dict[str, Object]:
    """The triggers of a model's ScaledObject, by name."""
    (found,) = [
        document
        for document in of_kind(name, "ScaledObject")
        if document["metadata"]["labels"]["tritonclip/model"] == model
    ]
    return {trigger["name"]: trigger for trigger in found["spec"]["triggers"]}


def asked_by_keda(trigger: str) -> str:
    found: str = triggers("keda")[trigger]["metadata"]["query"]
    return found


def samples(model: str, growth: Mapping[str, float], **others: str) -> list[dict[str, str]]:
    """What a stage's counters do in five minutes, at a sample in 10 s, as promtool reads it."""
    of = {
        "namespace": NAMESPACE, "app_kubernetes_io_instance": RELEASE, "tritonclip_model": MODEL, "model": model,
        "pod": "a",
    } | others  # fmt: skip
    written = ", ".join(f'{key}="{value}"' for key, value in of.items())
    return [{"series": f"nv_inference_{name}{{{written}}}", "values": f"0+{step}x30"} for name, step in growth.items()]


def stage(queue: float, work: float, requests: float) -> dict[str, float]:
    """Microseconds of waiting and of work, and requests, in 10 s."""
    return {
        "queue_duration_us": queue,
        "compute_input_duration_us": 0.1 * work,
        "compute_infer_duration_us": 0.8 * work,
        "compute_output_duration_us": 0.1 * work,
        "request_success": requests,
    }


BUSY = stage(queue=9_000_000, work=3_000_000, requests=100)  # 90 ms each, three times the work
Stages = list[tuple[str, dict[str, float], dict[str, str]]]
CASES: dict[str, tuple[Stages, float]] = {
    "the stage that waits longest counts": ([("image_encoder", BUSY, {}), ("text_encoder", stage(1, 1, 1), {})], 3),
    "pods are taken together": ([("image_encoder", BUSY, {}), ("image_encoder", stage(0, 6e6, 100), {"pod": "b"})], 1),
    "a stage of several variants in one Triton counts": ([("other.image_encoder", BUSY, {})], 3),
    "a short wait is that for a batch": ([("text_tokenize", stage(queue=300_000, work=10_000, requests=100), {})], 0),
    "nobody asks": ([("image_encoder", stage(0, 0, 0), {})], 0),
    "an ensemble has no queue of its own": ([("embed_image", BUSY, {}), ("image_encoder", stage(0, 1, 1), {})], 0),
    "another model's load is its own": (
        [("image_encoder", BUSY, {"tritonclip_model": "other"}), ("image_encoder", stage(0, 1, 1), {})],
        0,
    ),
    "another release's load is its own": (
        [("image_encoder", BUSY, {"namespace": "elsewhere"}), ("image_encoder", stage(0, 1, 1), {})],
        0,
    ),
}


def ask(expression: str, series: list[dict[str, str]], value: float | None, folder: Path) -> None:
    """Fails unless Prometheus' engine finds this value, or nothing, five minutes after the series began."""
    expected = [] if value is None else [{"labels": "{}", "value": value}]
    check = {"expr": expression, "eval_time": "5m", "exp_samples": expected}
    case = {"interval": "10s", "input_series": series, "promql_expr_test": [check]}
    file = folder / "scaling.test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}))
    promtool("test", "rules", file)


@pytest.mark.parametrize("case", CASES)
def test_queue_over_compute(case: str, tmp_path: Path) -> None:
    stages, value = CASES[case]
    series = [line for model, growth, others in stages for line in samples(model, growth, **others)]
    ask(asked_by_keda("queue-over-compute"), series, value, tmp_path)


def test_requests_that_wait_are_added_up_over_stages_and_pods(tmp_path: Path) -> None:
    waiting = [("image_preprocess", "a", 3), ("image_encoder", "a", 20), ("image_encoder", "b", 7), ("compare", "a", 9)]
    series = [
        line | {"values": f"{count}x30"}
        for model, pod, count in waiting
        for line in samples(model, {"pending_request_count": 0}, pod=pod)
    ]
    ask(asked_by_keda("pending-requests"), series, 30, tmp_path)


@pytest.mark.parametrize("trigger", ["queue-over-compute", "pending-requests"])
def test_without_figures_there_is_no_answer(trigger: str, tmp_path: Path) -> None:
    """Which KEDA is told to take for a fault where there are pods, and for no load where there need not be any."""
    ask(asked_by_keda(trigger), samples("image_encoder", BUSY, namespace="elsewhere"), None, tmp_path)
    assert triggers("keda")[trigger]["metadata"]["ignoreNullValues"] == "false"
    assert triggers("zero", "seldom")[trigger]["metadata"]["ignoreNullValues"] == "true"


def test_a_first_request_wakes_a_model_without_pods_and_scales_no_further(tmp_path: Path) -> None:
    trigger = triggers("zero", "seldom")["requests"]
    of = f'namespace="{NAMESPACE}", app_kubernetes_io_instance="{RELEASE}", status="503"'
    others = {"series": f'tritonclip_gateway_requests_total{{{of}, model="always"}}', "values": "0+2x30"}
    probes = {"series": f'tritonclip_gateway_requests_total{{{of}, model=""}}', "values": "0+2x30"}
    asked = {"series": f'tritonclip_gateway_requests_total{{{of}, model="seldom"}}', "values": "0x27 1x3"}
    query = trigger["metadata"]["query"]
    ask(f"{query} > bool {trigger['metadata']['activationThreshold']}", [others, probes, asked], 1, tmp_path)
    ask(query, [others, probes], None, tmp_path)
    assert int(trigger["metadata"]["threshold"]) > 1e6
    assert "requests" not in triggers("zero", "always")


def test_every_metric_is_one_that_dashboard_or_alerts_name() -> None:
    """Tests of those see to it that a real Triton and a real gateway have them."""
    queries = [
        trigger["metadata"]["query"]
        for name in SCALED
        for document in of_kind(name, "ScaledObject")
        for trigger in document["spec"]["triggers"]
    ]
    assert len(queries) == 7
    for each in queries:
        assert metric_names(each)
        assert metric_names(each) <= named_metrics()


def test_the_ratio_is_one_of_the_deployment_and_the_count_one_of_each_pod() -> None:
    assert triggers("keda")["queue-over-compute"]["metricType"] == "Value"
    assert triggers("keda")["pending-requests"]["metricType"] == "AverageValue"
    (scaler,) = of_kind("adapter", "HorizontalPodAutoscaler", "triton")
    ratio, count = [metric["external"] for metric in scaler["spec"]["metrics"]]
    assert ratio["target"] == {"type": "Value", "value": "1"}
    assert count["target"] == {"type": "AverageValue", "averageValue": "64"}
    for metric in (ratio, count):
        assert metric["metric"]["selector"]["matchLabels"] == {
            "app_kubernetes_io_instance": RELEASE, "tritonclip_model": MODEL,
        }  # fmt: skip


def test_pods_are_added_before_the_alert_of_a_saturated_stage() -> None:
    alert = alert_expressions()["StageSaturated"]
    ratio, microseconds = map(float, re.findall(r"> (\d+)", alert))
    trigger = triggers("zero", "always")["queue-over-compute"]["metadata"]
    (wait,) = re.findall(r"> bool (\d+)", trigger["query"])
    assert float(trigger["threshold"]) < ratio
    assert float(wait) < microseconds


def test_requests_that_wait_are_too_many_from_one_batch_on() -> None:
    config = text_format.Parse((ROOT / "model_repository/image_encoder/config.pbtxt").read_text(), ModelConfig())
    trigger = triggers("zero", "always")["pending-requests"]["metadata"]
    assert int(trigger["threshold"]) == config.max_batch_size
    assert int(trigger["threshold"]) < config.dynamic_batching.default_queue_policy.max_queue_size


def test_settings_of_scaling_arrive() -> None:
    (document,) = of_kind("keda", "ScaledObject")
    spec = document["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 16)
    given = {name: trigger["metadata"] for name, trigger in triggers("keda").items()}
    assert given["queue-over-compute"]["threshold"] == "1.5"
    assert "> bool 20000" in given["queue-over-compute"]["query"]
    assert given["pending-requests"]["threshold"] == "128"
    assert {trigger["serverAddress"] for trigger in given.values()} == {"http://prometheus.observability:9090"}
    assert [each["spec"]["minReplicaCount"] for each in of_kind("zero", "ScaledObject")] == [1, 0]


@pytest.mark.parametrize("name", ["keda", "adapter"])
def test_pods_go_slowly_and_come_at_once(name: str) -> None:
    (document,) = [*of_kind(name, "ScaledObject"), *of_kind(name, "HorizontalPodAutoscaler", "triton")]
    behavior = (
        document["spec"].get("behavior") or document["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    )
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def test_the_gateway_is_scaled_by_its_processor() -> None:
    (scaler,) = of_kind("several", "HorizontalPodAutoscaler", "gateway")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 12)
    (metric,) = scaler["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    (gateway,) = of_kind("pull", "Deployment", "gateway")
    assert gateway["spec"]["replicas"] == 4
    assert all(of_kind(name, "HorizontalPodAutoscaler", "gateway") for name in SETS if name != "pull")


def monitors() -> dict[str, Any]:
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document
        for document in of_kind("keda", "PodMonitor")
    }


def test_jobs_and_intervals_are_those_of_the_compose_files_prometheus() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]} - {"prometheus"}
    assert set(monitors()) == jobs
    for document in monitors().values():
        assert document["spec"]["jobLabel"] == "app.kubernetes.io/component"
        (endpoint,) = document["spec"]["podMetricsEndpoints"]
        assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (
            config["global"]["scrape_interval"], config["global"]["scrape_timeout"],
        )  # fmt: skip
        assert document["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_queries_go_by_labels_that_the_monitor_takes_from_pods() -> None:
    for document in monitors().values():
        given = {re.sub(r"\W", "_", label) for label in document["spec"]["podTargetLabels"]}
        assert given == {"app_kubernetes_io_instance", "tritonclip_model"}
    (pod,) = of_kind("keda", "Deployment", "triton")
    assert set(monitors()["triton"]["spec"]["podTargetLabels"]) <= set(pod["spec"]["template"]["metadata"]["labels"])


def test_the_rules_are_the_alerts() -> None:
    (rule,) = of_kind("keda", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_the_dashboard_is_found_by_grafanas_sidecar() -> None:
    (dashboard,) = of_kind("keda", "ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"] == {
        "tritonclip.json": (ROOT / "deploy/monitoring/grafana/dashboards/tritonclip.json").read_text()
    }
