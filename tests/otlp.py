"""An OpenTelemetry collector in this process: it takes spans by OTLP over HTTP, as protobuf and as JSON."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it came; ids are hexadecimal, and `parent` is empty where it has none."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    seconds: float
    attributes: dict[str, Any]
    failed: bool


class Collector:
    """What has come so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.received = b""  # all bodies

    def of(self, trace: str) -> list[Span]:
        return [span for span in list(self.spans) if span.trace == trace]

    def complete(self, ask: Callable[[], str], complete: Callable[[list[Span]], bool]) -> list[Span]:
        """The spans of what is asked, once there are those that are waited for; `ask` gives its trace.

        They are sent by and by. Triton 2.51 loses some now and then: then it is asked again.
        """
        for _ in range(10):
            trace, deadline = ask(), time.monotonic() + 8
            while time.monotonic() < deadline:
                if complete(self.of(trace)):
                    return self.of(trace)
                time.sleep(0.05)
        raise AssertionError([(span.service, span.name) for span in self.of(trace)])

    def take(self, body: bytes, media_type: str) -> None:
        self.received += body
        if media_type == "application/json":  # where ids are hexadecimal already
            document = json.loads(body)
        else:
            document = json_format.MessageToDict(ExportTraceServiceRequest.FromString(body))
        for part in document["resourceSpans"]:
            service = _attributes(part["resource"])["service.name"]
            for scope in part["scopeSpans"]:
                self.spans += [_span(service, span, media_type) for span in scope["spans"]]


def _attributes(entry: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values())) for pair in entry.get("attributes", ())}


def _span(service: str, span: dict[str, Any], media_type: str) -> Span:
    def identifier(name: str) -> str:
        text = span.get(name, "")
        if media_type == "application/json":
            return str(text)
        return base64.b64decode(text).hex()

    return Span(
        service,
        span["name"],
        identifier("traceId"),
        identifier("spanId"),
        identifier("parentSpanId"),
        str(span.get("kind", "")),
        (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9,
        _attributes(span),
        span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(body, self.headers["Content-Type"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()
