"""Profile `monitoring`: Prometheus finds the services by name, and there all that dashboard and alerts name."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compose.conftest import Stack, wait_for
from tests.compose_files import ROOT
from tests.promql import alert_expressions, gpu_metrics, named_metrics

IMAGE = ROOT / "samples/scenes/red-triangle-15.jpg"


class Prometheus:
    """Its API."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30.0)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def has(self, name: str) -> bool:
        return bool(self.get("/query", query=f"count({name})")["result"])

    def up(self) -> list[str]:
        return sorted(t["labels"]["job"] for t in self.get("/targets")["activeTargets"] if t["health"] == "up")


@pytest.fixture(scope="module")
def prometheus(stack: Stack, key: str) -> Iterator[Prometheus]:
    """Prometheus of the stack, which has seen requests that were answered and ones that were refused."""
    send_traffic(stack.gateway_url, key)  # first, so that whatever is scraped tells of it
    stack.compose("--profile", "monitoring", "up", "-d", "prometheus")
    running = Prometheus(stack.prometheus_port)
    wait_for("Prometheus", lambda: is_ready(stack.prometheus_port))
    yield running
    stack.compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus")


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def send_traffic(gateway: str, key: str) -> None:
    image = encoded(IMAGE)
    with httpx.Client(base_url=gateway, headers={"authorization": f"Bearer {key}"}, timeout=60.0) as client:
        for _ in range(2):
            body = {"images": [image], "texts": ["a red triangle", "a blue star"]}
            assert client.post("/v1/similarity", json=body).status_code == 200
        broken = {"input": "data:image/png;base64,AAAA"}
        assert client.post("/v1/embeddings", json=broken).status_code == 400
    assert httpx.get(f"{gateway}/v1/models", timeout=60).status_code == 401


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_all_targets_are_up(prometheus: Prometheus) -> None:
    wait_for("all targets up", lambda: prometheus.up() == ["gateway", "prometheus", "triton"])


def test_every_metric_of_the_dashboard_and_the_alerts_exists(prometheus: Prometheus) -> None:
    names = named_metrics() - gpu_metrics()
    assert len(names) > 10
    wait_for("scraped", lambda: all(map(prometheus.has, ("nv_inference_count", "tritonclip_gateway_requests_total"))))
    missing = {name for name in names if not prometheus.has(name)}
    assert not missing


def test_the_alert_rules_are_loaded_and_evaluated(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("/rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(alert_expressions())
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
