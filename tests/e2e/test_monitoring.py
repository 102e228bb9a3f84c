"""A real Prometheus on a real Triton and gateway: whatever the dashboard and the alerts name is there, and is seen."""

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tritonclient.grpc import service_pb2

from tests.e2e.test_overload import AGAIN, bytes_tensor, flood
from tests.gateway_server import GatewayProcess
from tests.prometheus import Prometheus
from tests.promql import alert_expressions, dashboard_expressions, gpu_metrics, metric_names, named_metrics
from tests.reference import PHOTOS
from tests.serving import start
from tritonclip import Client
from tritonclip_server.embedded.server import LOOPBACK, Server

pytestmark = pytest.mark.alone


def image_request(images: list[bytes]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="embed_image")
    request.inputs.add(name="image", datatype="BYTES", shape=[len(images), 1])
    request.raw_input_contents.append(bytes_tensor(images))
    return request


NAMES, GPU_METRICS = named_metrics(), gpu_metrics()
EXPRESSIONS = alert_expressions() | dashboard_expressions()
# What the dashboard shows wherever there is traffic, and where there is no GPU.
SHOWN = {where: e for where, e in dashboard_expressions().items() if not metric_names(e) & GPU_METRICS}
STAGE_FAILURES = "Triton: failed requests, B"  # empty as long as no stage breaks
FLOOD = 300 * [image_request([PHOTOS[0].read_bytes()] * 2)]
SECONDS = 60


@pytest.fixture(scope="module")
def triton(demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of its own: counters from 0, and floods that disturb nobody."""
    running = start(demo_repository, tmp_path_factory.mktemp("logs") / "triton.log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def gateway(triton: Server) -> Iterator[GatewayProcess]:
    running = GatewayProcess("--url", triton.grpc_url, "--max-items-in-flight", "2", "--max-waiting", "4")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def prometheus(
    triton: Server, gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It has watched both while they answered, failed and refused."""
    targets = {
        "triton": [f"{LOOPBACK}:{triton.ports.metrics}"],
        "gateway": [gateway.url.removeprefix("http://")],
    }
    with Prometheus(targets, tmp_path_factory.mktemp("prometheus")) as running:
        wait_until(lambda: len(running.query("up == 1")) == 3)
        send_traffic(triton, gateway.url)
        wait_until(lambda: bool(running.query("sum(tritonclip_gateway_rejections_total) > 2")))  # the last of it
        yield running


def missing(prometheus: Prometheus) -> set[str]:
    """The expressions of the dashboard that show nothing."""
    return {where for where, expression in SHOWN.items() if not prometheus.query(expression)} - {STAGE_FAILURES}


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds once Prometheus has had time to scrape; what answers it late is away until the next one."""
    deadline = time.monotonic() + SECONDS
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


def send_traffic(server: Server, gateway: str) -> None:
    """Requests that succeed, hold bad input, hit caches and are refused, at both."""
    with Client(server.grpc_url) as client:
        for _ in range(2):
            client.embed_texts(["a red triangle"])
            client.compare(PHOTOS[0], ["a red triangle"])
            client.classify(PHOTOS[0], label_set="scenes")
    for _ in range(AGAIN):
        refused = flood(server.grpc_url, [image_request([b"no image"]), *FLOOD])
        assert refused["OK"] > 0
        if refused["UNAVAILABLE"] > 0:
            break
    assert refused["UNAVAILABLE"] > 0, "the queues never filled, so no refusal was to be seen"
    image = "data:image/jpeg;base64," + base64.b64encode(PHOTOS[0].read_bytes()).decode()

    def ask(content: Any) -> int:
        return httpx.post(f"{gateway}/v1/embeddings", json={"input": content}, timeout=60, trust_env=False).status_code

    assert httpx.get(f"{gateway}/health/ready", timeout=60, trust_env=False).status_code == 200
    assert [ask(image), ask("a text"), ask("a text"), ask("data:image/png;base64,AAAA")] == [200, 200, 200, 400]
    with ThreadPoolExecutor(32) as threads:
        answers = Counter(threads.map(ask, 64 * [image]))
    assert set(answers) == {200, 429}


def test_only_names_in_tritons_list_are_taken_for_the_gpus() -> None:
    assert {name for name in NAMES if name.startswith(("nv_gpu_", "nv_energy_"))} <= GPU_METRICS


@pytest.mark.parametrize("name", sorted(NAMES - GPU_METRICS))
def test_every_metric_named_exists(prometheus: Prometheus, name: str) -> None:
    assert wait_until(lambda: bool(prometheus.query(f"count({name})"))), f"no service has {name}"


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_expression_is_accepted(prometheus: Prometheus, where: str) -> None:
    prometheus.query(EXPRESSIONS[where])


def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    assert wait_until(lambda: not missing(prometheus)), missing(prometheus)


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    expected = dict.fromkeys(alert_expressions(), ("ok", ""))
    assert wait_until(lambda: rule_states(prometheus) == expected), rule_states(prometheus)


def rule_states(prometheus: Prometheus) -> dict[str, tuple[str, str]]:
    groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    return {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}


def test_failures_are_counted_as_the_alerts_assume(prometheus: Prometheus) -> None:
    """Bad input and full queues: twice each at the ensemble as OTHER, and nowhere else."""

    def as_assumed() -> bool:
        found = failures(prometheus)
        return set(found) == {("embed_image", "OTHER")} and found["embed_image", "OTHER"] % 2 == 0

    assert wait_until(as_assumed), failures(prometheus)
    assert wait_until(lambda: rejections(prometheus) == {"invalid_image", "overloaded"}), rejections(prometheus)


def failures(prometheus: Prometheus) -> dict[tuple[str, str], int]:
    """By model and reason."""
    return {
        (sample["metric"]["model"], sample["metric"]["reason"]): int(sample["value"][1])
        for sample in prometheus.query("nv_inference_request_failure > 0")
    }


def rejections(prometheus: Prometheus) -> set[str]:
    return {sample["metric"]["code"] for sample in prometheus.query("tritonclip_gateway_rejections_total > 0")}


def test_a_flood_is_seen_as_refusals(prometheus: Prometheus, triton: Server) -> None:
    """Again and again, until a scrape falls into it."""
    refusing = alert_expressions()["TritonRefusing"]

    def seen() -> bool:
        flood(triton.grpc_url, FLOOD)
        return bool(prometheus.query(refusing))

    assert wait_until(seen)


def test_a_dead_stage_is_seen(prometheus: Prometheus, triton: Server) -> None:
    """Near the end, for it breaks this server: its image encoder's processes are killed."""
    assert SHOWN[STAGE_FAILURES]
    assert prometheus.query(SHOWN[STAGE_FAILURES]) == prometheus.query(alert_expressions()["StageFailing"]) == []
    for process in psutil.Process(triton.pid).children():
        if any(argument.startswith("image_encoder_") for argument in process.cmdline()):
            process.kill()

    def seen() -> bool:
        assert flood(triton.grpc_url, FLOOD[:1]) == {"INTERNAL": 1}
        return bool(prometheus.query(alert_expressions()["StageFailing"]))

    assert wait_until(seen)
    (failing,) = prometheus.query(alert_expressions()["StageFailing"])
    assert failing["metric"]["model"] == "image_encoder"
    assert prometheus.query(SHOWN[STAGE_FAILURES])


def test_a_gateway_that_is_gone_is_noticed(prometheus: Prometheus, gateway: GatewayProcess) -> None:
    """Last, for it ends the gateway."""
    assert wait_until(lambda: prometheus.query(alert_expressions()["GatewayDown"]) == [])
    gateway.stop()
    assert wait_until(lambda: bool(prometheus.query(alert_expressions()["GatewayDown"])))
    assert wait_until(lambda: bool(prometheus.query('ALERTS{alertname="GatewayDown", alertstate="pending"}')))
    assert wait_until(lambda: prometheus.query(alert_expressions()["TritonDown"]) == [])
