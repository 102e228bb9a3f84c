"""How a request is followed without a collector: its id, the trace it is part of, and its line in the request log."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.images import RED_URL
from tests.unit.gateway.conftest import gateway_over
from tests.virtual_time import run
from tests.waiting import wait_for
from tritonclip import AsyncClient, ConfigError
from tritonclip.testing import FakeServer
from tritonclip_server.embedded.triton_tracing import trace_flags
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.http import timeline
from tritonclip_server.gateway.http.timeline import Stage, Timeline
from tritonclip_server.gateway.http.trace_context import PassedTrace, open_tracer
from tritonclip_server.gateway.logs import RequestLog
from tritonclip_server.gateway.settings import Settings

SECRET = "a text that nobody else may read"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


def test_a_callers_trace_and_id_go_on_to_the_model_server(fake: FakeServer) -> None:
    headers = {"traceparent": SAMPLED, "tracestate": "vendor=1", "x-request-id": "mine-1"}
    with gateway_over(fake) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": ["a", RED_URL]}, headers=headers)
        assert answer.headers["x-request-id"] == "mine-1"
        gateway.http.post("/v1/classify", json={"images": [RED_URL], "label_set": "colours"}, headers=headers)
        own = gateway.http.post("/v1/embeddings", json={"input": "b"}, headers={"x-request-id": "of no form"})
    asked = [call for model in ("embed_image", "classify_colours") for call in fake.requests(model)]
    texts, tokens = fake.requests("embed_text"), fake.requests("text_tokenize")
    for call in (*asked, texts[0], tokens[0]):
        assert dict(call.headers) == headers
        assert call.id == "mine-1"
    assert own.headers["x-request-id"].startswith("req-")
    assert dict(texts[1].headers) == {"x-request-id": own.headers["x-request-id"]}


@pytest.mark.parametrize(
    ("headers", "trace", "passed"),
    [
        ({"traceparent": SAMPLED}, TRACE, {"traceparent": SAMPLED}),
        ({"traceparent": SAMPLED, "tracestate": "a=1, b=2"}, TRACE, {"traceparent": SAMPLED, "tracestate": "a=1, b=2"}),
        ({"traceparent": SAMPLED, "tracestate": "é"}, TRACE, {"traceparent": SAMPLED}),
        ({"traceparent": SAMPLED, "tracestate": "a" * 513}, TRACE, {"traceparent": SAMPLED}),
        ({"traceparent": f"00-{TRACE}-{PARENT}-00"}, TRACE, {}),  # not sampled, and Triton would record it
        ({"traceparent": f"00-{'0' * 32}-{PARENT}-01"}, None, {}),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, None, {}),
        ({"traceparent": f"ff-{TRACE}-{PARENT}-01"}, None, {}),
        ({"traceparent": f"{SAMPLED}, {SAMPLED}"}, None, {}),  # it came twice
        ({"traceparent": SAMPLED.upper()}, None, {}),
        ({"traceparent": f"{SAMPLED}\n"}, None, {}),
        ({"tracestate": "a=1"}, None, {}),
        ({}, None, {}),
    ],
)
def test_what_is_no_trace_or_not_sampled_goes_no_further(
    headers: dict[str, str], trace: str | None, passed: dict[str, str]
) -> None:
    found = PassedTrace(headers)
    assert found.id == trace
    with found.span("embed_text", call=True) as onward:
        assert onward == passed


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[RequestLog, Path]]:
    """A request log, and the file that it is written to."""
    path = tmp_path / "requests.log"
    with path.open("wb", buffering=0) as file:
        yield RequestLog(file.fileno()), path


def test_each_request_is_a_line_of_ids_and_counts(
    written: tuple[RequestLog, Path], tmp_path: Path, fake: FakeServer
) -> None:
    request_log, path = written
    keys = KeyFile(tmp_path / "keys.json")
    key, secret = keys.create("alice")
    app = create_app(AsyncClient(transport=fake.async_transport()), Settings(keys=keys.path), request_log=request_log)
    asked: list[tuple[str, Any]] = [
        ("/v1/embeddings", {"input": [SECRET, RED_URL, "b"]}),
        ("/v1/embeddings", {"input": SECRET, "model": SECRET}),
        (f"/v1/{SECRET}?q={SECRET}", {}),
    ]
    with TestClient(app) as http:
        for path_, document in asked:
            headers = {"authorization": f"Bearer {secret}", "traceparent": SAMPLED, "user-agent": SECRET}
            http.post(path_, json=document, headers=headers)
        http.post("/v1/embeddings", json={"input": SECRET}, headers={"authorization": f"Bearer {SECRET}"})
        http.get("/health/live")
    wait_for(lambda: path.read_text().count("\n") == len(asked) + 2)  # a thread writes them
    content = path.read_text()
    lines = [json.loads(line) for line in content.splitlines()]
    assert SECRET not in content
    assert secret not in content
    assert RED_URL[-20:] not in content
    shown = [(line["endpoint"], line["status"], line["code"], line["key"], line["trace"]) for line in lines]
    assert shown == [
        ("/v1/embeddings", 200, None, key.id, TRACE),
        ("/v1/embeddings", 404, "model_not_found", key.id, TRACE),
        ("unknown", 404, "not_found", key.id, TRACE),
        ("/v1/embeddings", 401, "invalid_api_key", None, None),
        ("/health/live", 200, None, None, None),
    ]
    assert [(line["model"], line["images"], line["texts"]) for line in lines[:2]] == [("fake", 1, 2), (None, 0, 0)]
    assert set(lines[0]["stages"]) == {"body", "wait", "triton", "answer"}
    assert set(lines[4]["stages"]) == {"answer"}
    assert all(line["ms"] >= max(line["stages"].values()) for line in lines)


def test_lines_that_cannot_be_written_cost_no_request(fake: FakeServer) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    app = create_app(AsyncClient(transport=fake.async_transport()), Settings(), request_log=RequestLog(writing))
    with TestClient(app) as http:
        assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 200
    os.close(writing)


def test_parts_side_by_side_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(timeline, "time", clock)

    async def main() -> dict[str, float]:
        of_request = Timeline()

        async def part() -> None:
            with Stage(of_request, "triton", nullcontext({})):
                await asyncio.sleep(2.0)

        await asyncio.gather(*(part() for _ in range(20)))
        return of_request.end()

    assert run(main()) == {"triton": 2.0, "answer": 0.0}


def test_nothing_is_traced_unless_an_endpoint_says_where_to() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    for environment in (
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        endpoint | {"OTEL_SDK_DISABLED": "true"},
    ):
        assert open_tracer(environment) is None
        assert trace_flags(environment) == []
    assert trace_flags(endpoint)[0] == "--trace-config=mode=opentelemetry"


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .* not 'grpc'"):
        open_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", name: "grpc"})


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tritonclip_server.gateway.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pip install 'tritonclip-server\[otel\]'"):
        open_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
