"""A request can be followed: from its caller through the gateway into Triton's models, in one trace (OpenTelemetry)."""

import json
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.gateway_server import GatewayProcess
from tests.images import RED_URL
from tests.launching import Launcher
from tests.otlp import Collector, Span, collecting
from tritonclip_server.gateway.access.keys import KeyFile

SECRET = "a text that nobody else may read"
CALLER = "a1" * 8
GATEWAY, TRITON = "tritonclip-gateway", "triton-inference-server"


# What a text and an image make.
WHOLE = Counter(
    {
        (GATEWAY, name): 1
        for name in ("POST /v1/embeddings", "body", "embed_image", "embed_text", "count_tokens", "answer")
    }
    | {(GATEWAY, "wait"): 2, (TRITON, "InferRequest"): 3, (TRITON, "text_tokenize"): 2, (TRITON, "compute"): 5}
    | {(TRITON, name): 1 for name in ("embed_image", "image_preprocess", "image_encoder", "embed_text", "text_encoder")}
)


class Followed(NamedTuple):
    """A running `tritonclip-server serve` whose spans a collector takes."""

    launcher: Launcher
    http: httpx.Client
    key: str
    key_id: str
    collector: Collector

    def post(self, path: str, headers: dict[str, str], **document: Any) -> httpx.Response:
        authorization = {"authorization": f"Bearer {self.key}"}
        return self.http.post(path, json=document, headers=authorization | headers)

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The gateway's line about a request; `serve` says what its gateway says."""
        line = self.launcher.read_until(f'"request":"{request_id}"')
        document: dict[str, Any] = json.loads(line[line.index("{") :])
        return document


@pytest.fixture(scope="module")
def followed(demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("followed")
    keys = KeyFile(folder / "keys.json")
    key, secret = keys.create("tests")
    with collecting() as collector:
        environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500"}
        flags = f"--log-requests --keys {keys.path}"
        arguments = ("--gateway-port", "0", "--gateway-flags", flags)
        with Launcher(demo_repository, folder, *arguments, environment=environment) as launcher:
            url = launcher.read_until("gateway ready").split()[-1]
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
                yield Followed(launcher, http, secret, key.id, collector)


def traced(trace: str, *, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-{'01' if sampled else '00'}", "tracestate": "vendor=1"}


def names(spans: list[Span]) -> list[tuple[str, str]]:
    return [(span.service, span.name) for span in spans]


def test_a_request_is_one_trace_from_its_caller_to_the_models(followed: Followed) -> None:
    def ask() -> str:
        trace = secrets.token_hex(16)
        answer = followed.post(
            "/v1/embeddings",
            traced(trace) | {"x-request-id": trace},
            input=[f"{SECRET} {trace}", RED_URL],
            model="demo",
        )
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == trace
        return trace

    spans = followed.collector.complete(ask, lambda spans: Counter(names(spans)) >= WHOLE)
    trace = spans[0].trace
    by_id = {span.id: span for span in spans}
    (whole,) = [span for span in spans if span.name == "POST /v1/embeddings"]
    assert whole.parent == CALLER
    assert {span.parent for span in spans} <= {*by_id, CALLER}
    assert all(span.parent == whole.id for span in spans if span.service == GATEWAY and span is not whole)
    inferences = [span for span in spans if span.name == "InferRequest"]
    assert {by_id[span.parent].name for span in inferences} == {"embed_image", "embed_text", "count_tokens"}
    assert all(by_id[span.parent].service == GATEWAY for span in inferences)
    models = [span for span in spans if "triton.model_name" in span.attributes]
    assert {span.attributes["triton.request_id"] for span in models if by_id[span.parent] in inferences} == {trace}
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": "200",
        "url.scheme": "http",
        "tritonclip.request_id": trace,
        "tritonclip.key_id": followed.key_id,
        "tritonclip.model": "demo",
        "tritonclip.images": "1",
        "tritonclip.texts": "1",
    }
    line = followed.line_of(trace)
    stages = line.pop("stages")
    assert line.pop("ms") >= max(stages.values())
    assert set(stages) == {"body", "wait", "triton", "answer"}
    del line["time"]
    assert line == {
        "request": trace,
        "trace": trace,
        "key": followed.key_id,
        "method": "POST",
        "endpoint": "/v1/embeddings",
        "model": "demo",
        "images": 1,
        "texts": 1,
        "status": 200,
        "code": None,
    }


def test_what_its_caller_did_not_sample_is_not_recorded_anywhere(followed: Followed) -> None:
    followed.post("/v1/embeddings", traced("2" * 32, sampled=False), input=["unsampled", RED_URL])
    followed.http.get("/health/ready", headers=traced("3" * 32))  # what watches the gateway is not followed

    def ask() -> str:
        trace = secrets.token_hex(16)
        followed.post("/v1/embeddings", traced(trace), input=[f"sampled {trace}", RED_URL])
        return trace

    ended = {(GATEWAY, "POST /v1/embeddings"), (TRITON, "embed_image")}  # what was sent before has arrived by then
    followed.collector.complete(ask, lambda spans: ended <= {*names(spans)})
    assert not followed.collector.of("2" * 32)
    assert not followed.collector.of("3" * 32)


def test_without_a_trace_the_gateway_begins_one(followed: Followed) -> None:
    def ask() -> str:
        own = secrets.token_hex(8)
        headers = {"traceparent": "00-of no form", "x-request-id": own}
        followed.post("/v1/embeddings", headers, input=[f"own {own}", RED_URL])
        return str(followed.line_of(own)["trace"])

    expected = {(GATEWAY, "POST /v1/embeddings"), (TRITON, "embed_image"), (TRITON, "embed_text")}
    spans = followed.collector.complete(ask, lambda spans: expected <= {*names(spans)})
    assert [span.name for span in spans if not span.parent] == ["POST /v1/embeddings"]


def test_a_failure_has_its_code_and_none_of_its_words(followed: Followed) -> None:
    def ask() -> str:
        trace = secrets.token_hex(16)
        assert followed.post("/v1/embeddings", traced(trace), input=SECRET, model=SECRET).status_code == 404
        assert followed.http.post(f"/v1/{SECRET}?q={SECRET}", headers=traced(trace)).status_code == 401
        return trace

    spans = followed.collector.complete(ask, lambda spans: len([s for s in spans if s.parent == CALLER]) == 2)
    whole = {span.name: span.attributes for span in spans if span.parent == CALLER}
    assert whole["POST /v1/embeddings"]["tritonclip.error_code"] == "model_not_found"
    assert whole["POST unknown"]["tritonclip.error_code"] == "invalid_api_key"
    for word in (SECRET, SECRET.replace(" ", "%20"), followed.key):
        assert word.encode() not in followed.collector.received


@pytest.mark.parametrize("answers", [False, True])
def test_a_collector_that_is_away_costs_no_request(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses connections, or takes them and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if not answers:
            silent.close()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        gateway = GatewayProcess(fake=0.0)
        for number in range(5):
            body = {"input": f"text {number}"}
            answer = httpx.post(f"{gateway.url}/v1/embeddings", json=body, trust_env=False, timeout=60)
            assert answer.status_code == 200
        asked = time.monotonic()
        gateway.stop()
        assert gateway.process.returncode == 0
        assert time.monotonic() - asked < 20  # the exporter by itself tries for 30
