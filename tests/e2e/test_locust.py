"""Locust as people start it, in processes of its own, on a real Triton and a real gateway. Timing decides nothing here.

Locust is never imported in this process: it would patch the standard library under the tests' own servers.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.gateway_server import ROOT, GatewayProcess, listening
from tritonclip_server.embedded.server import LOOPBACK, Server, find_port
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.metrics import Metrics

pytestmark = pytest.mark.alone

SCENARIOS = """
[everything]
about = "every class, every task"
classes = { TritonGrpcUser = 1, TritonHttpUser = 1, GatewayUser = 1, TextUser = 1, MixedUser = 1 }
tasks = { embed_image = 1, embed_text = 1, compare = 1, classify = 1 }
images = [
    { width = 320, height = 240, count = 3 },
    { width = 224, height = 300, format = "PNG", count = 2 },
    { width = 300, height = 224, format = "WEBP", count = 2 },
]
texts = 16
labels = [2, 6]
label_set = "scenes"
cache_hits = 0.5
users = 5
seconds = 5

[crowd]
about = "an open loop, with the gateway's own labels"
classes = { GatewayUser = 1, TritonGrpcUser = 1 }
tasks = { embed_image = 1, classify = 1, embed_text = 1 }
images = [{ width = 320, height = 240, count = 3 }]
texts = 8
loop = "open"
rate = 12
shape = "step"
steps = 2
users = 4
seconds = 4
deadline = 20
"""

LOOSE = "p50_ms = 30000\np95_ms = 30000\np99_ms = 30000\nerror_share = 0.0\nthroughput = 0.1\n"

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def gateway(demo_server: Server) -> Iterator[str]:
    running = GatewayProcess("--url", demo_server.grpc_url)
    yield running.url
    running.stop()


@pytest.fixture
def settings(demo_server: Server, gateway: str, tmp_path: Path) -> dict[str, str]:
    """The environment that says where everything is."""
    scenarios = tmp_path / "scenarios.toml"
    scenarios.write_text(SCENARIOS)
    return os.environ | {
        "TRITONCLIP_SCENARIOS": str(scenarios),
        "TRITONCLIP_GRPC_URL": demo_server.grpc_url,
        "TRITONCLIP_HTTP_URL": demo_server.http_url,
        "TRITONCLIP_GATEWAY_URL": gateway,
    }


@pytest.fixture
def start(settings: dict[str, str]) -> Iterator[Started]:
    """Starts Locust with these options; whatever still runs afterwards is ended."""
    started = []

    def starter(*options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "locust", "-f", "load/locustfile.py", *options]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, cwd=ROOT, env=settings, **pipes)
        started.append(process)
        return process

    yield starter
    for process in started:
        process.kill()
        process.communicate()


def run(start: Started, tmp_path: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """A headless run: its exit code, what it said, its report."""
    path = tmp_path / "report.json"
    process = start("--headless", "--only-summary", "--report", str(path), *options)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said, json.loads(path.read_text()) if path.exists() else {}


def test_make_load_with_every_class_and_task_and_with_limits_held_and_missed(
    settings: dict[str, str], tmp_path: Path
) -> None:
    def make(limits: str) -> tuple[int, str, dict[str, Any]]:
        thresholds, path = tmp_path / "thresholds.toml", tmp_path / "report.json"
        thresholds.write_text(f"[everything]\n{limits}")
        flags = f"LOAD_FLAGS=--thresholds {thresholds} --report {path}"
        command = ["make", "-o", "setup", "load", "SCENARIO=everything", flags]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=120, check=False)
        said = done.stdout + done.stderr
        assert path.exists(), said
        return done.returncode, said, json.loads(path.read_text())

    code, said, report = make(LOOSE)
    assert code == 0, said
    assert report["passed"]
    assert report["figures"]["requests"] == report["outcomes"]["answered"] > 0
    assert report["errors"] == []
    asked = {(entry["way"], entry["task"]) for entry in report["requests"]}
    assert "Aggregated" in said  # Locust's own table
    assert len(re.findall(r"^held ", said, re.MULTILINE)) == 5

    code, said, report = make(LOOSE.replace("throughput = 0.1", "throughput = 1000000"))
    assert code != 0
    assert not report["passed"]
    assert [limit["name"] for limit in report["thresholds"] if not limit["held"]] == ["throughput"]
    assert re.search(r"^MISSED throughput", said, re.MULTILINE)
    # Tasks are drawn: in the seconds of one run that stood still, not each may have had its turn.
    asked |= {(entry["way"], entry["task"]) for entry in report["requests"]}
    tasks = ("embed_image", "embed_text", "compare", "classify")
    assert asked == {(way, task) for way in ("grpc", "http", "gateway") for task in tasks}


def test_a_gateway_with_wrong_vectors_makes_failures(start: Started, settings: dict[str, str], tmp_path: Path) -> None:
    """Its answers are perfect but for being about something else."""
    asked = {"input": ["something else"], "encoding_format": "base64"}
    url = f"{settings['TRITONCLIP_GATEWAY_URL']}/v1/embeddings"
    answer = httpx.post(url, json=asked, timeout=60, trust_env=False).raise_for_status().json()
    app = FastAPI()
    app.state.metrics, app.state.drain = Metrics(), Drain()  # which the gateway's server asks an application for

    @app.post("/v1/embeddings")
    async def embeddings() -> Any:
        return answer

    scenarios = Path(settings["TRITONCLIP_SCENARIOS"])
    scenarios.write_text(SCENARIOS.replace("classify = 1, ", ""))
    with listening(app) as settings["TRITONCLIP_GATEWAY_URL"]:
        code, said, report = run(start, tmp_path, "--scenario", "crowd")
    assert code == 1, said  # without thresholds Locust's rule holds: a failure is a failure
    counts = {way: Counter[str]() for way in ("grpc", "gateway")}
    for entry in report["requests"]:
        counts[entry["way"]] += Counter(requests=entry["requests"], failures=entry["failures"])
    assert counts["grpc"]["requests"] > counts["grpc"]["failures"] == 0
    assert counts["gateway"]["requests"] == counts["gateway"]["failures"] == report["outcomes"]["wrong"] > 0
    assert {error["way"] for error in report["errors"]} == {"gateway"}
    assert all(error["error"].startswith("wrong: ") for error in report["errors"])


def test_a_master_and_two_workers(start: Started, settings: dict[str, str], tmp_path: Path) -> None:
    """Workers get the scenario and the URLs from their master: what they have of their own leads nowhere."""
    port = str(find_port(LOOPBACK, 0))
    there = {name: settings[name] for name in ("TRITONCLIP_GRPC_URL", "TRITONCLIP_GATEWAY_URL")}
    settings.update(TRITONCLIP_GRPC_URL="grpc://127.0.0.1:9", TRITONCLIP_GATEWAY_URL="http://127.0.0.1:9")
    workers = [start("--worker", "--master-host", LOOPBACK, "--master-port", port) for _ in range(2)]
    settings.update(there)
    master = ("--master", "--expect-workers", "2", "--master-bind-host", LOOPBACK, "--master-bind-port", port)
    code, said, report = run(start, tmp_path, *master, "--scenario", "crowd")
    assert code == 0, said
    assert "to 2 ready workers" in said
    assert report["figures"]["failures"] == 0
    assert report["figures"]["requests"] == report["outcomes"]["answered"] > 0
    assert {entry["way"] for entry in report["requests"]} == {"grpc", "gateway"}
    for worker in workers:
        heard, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, heard


def test_a_worker_that_cannot_prepare_ends_the_run(start: Started, settings: dict[str, str], tmp_path: Path) -> None:
    settings["TRITONCLIP_GRPC_URL"] = "grpc://127.0.0.1:9"
    port = str(find_port(LOOPBACK, 0))
    start("--worker", "--master-host", LOOPBACK, "--master-port", port)
    master = ("--master", "--expect-workers", "1", "--master-bind-host", LOOPBACK, "--master-bind-port", port)
    code, said, report = run(start, tmp_path, *master, "--scenario", "crowd")
    assert code == 2, said
    assert report == {}
    assert "scenario crowd could not run: ConnectError" in said


def test_classes_that_the_scenario_has_not_are_no_run(start: Started, tmp_path: Path) -> None:
    code, said, report = run(start, tmp_path, "--scenario", "crowd", "TextUser")
    assert code == 2, said
    assert report == {}
    assert "scenario crowd could not run: it has none of the user classes" in said


def test_locusts_page(start: Started, tmp_path: Path) -> None:
    """A scenario is chosen from the list there; the gateway's key is not on it."""
    port, path = find_port(LOOPBACK, 0), tmp_path / "report.json"
    options = ("--web-host", LOOPBACK, "--web-port", str(port), "--report", str(path), "--api-key", "tclip-secret")
    process = start(*options, "--scenario", "everything")
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60, trust_env=False) as http:
        page = until(lambda: reached(http), process)
        assert "tclip-secret" not in page
        assert re.search(r'"scenario":\s*{[^}]*"choices":\s*\["everything", "crowd"\]', page)
        http.post("/swarm", data={"user_count": 1, "spawn_rate": 1, "scenario": "crowd"}).raise_for_status()
        until(path.exists, process)
        until(lambda: http.get("/stats/requests").json()["state"] == "stopped", process)
    report = json.loads(path.read_text())
    assert report["scenario"]["name"] == "crowd"
    assert report["outcomes"]["answered"] == report["figures"]["requests"] > 0


def reached(http: httpx.Client) -> str | None:
    try:
        return http.get("/").text
    except httpx.TransportError:
        return None


def until(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    """What the condition gives once it is true; its process must not end before."""
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_a_scenario_that_cannot_be_meant_is_named(start: Started, settings: dict[str, str], tmp_path: Path) -> None:
    Path(settings["TRITONCLIP_SCENARIOS"]).write_text(SCENARIOS.replace("users = 5", "usres = 5"))
    code, said, _ = run(start, tmp_path)
    assert code == 1
    assert "error: scenario 'everything', users: Field required" in said
    assert "Traceback" not in said


def test_workers_need_neither_torch_nor_the_servers_code() -> None:
    """The image of the compose profile `load` has requirements/load.txt and the client alone."""
    program = """
import locust, runpy, sys
runpy.run_path("load/locustfile.py", run_name="locustfile")
print(*{name.partition(".")[0] for name in sys.modules} & {"torch", "open_clip", "tritonclip_server"})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
