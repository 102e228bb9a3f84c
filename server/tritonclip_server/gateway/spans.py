"""Spans by OpenTelemetry; imported where OTEL_EXPORTER_OTLP_ENDPOINT is set alone.

    POST /v1/embeddings ─┬─ body, wait, fetch, search, answer   (where the request came to them)
                         └─ embed_image, embed_text, …  ── Triton's own: InferRequest ─ its models ─ compute

Names and attributes are those of the semantic conventions for HTTP, less what callers make up (paths, queries, headers,
addresses); an error has its kind and none of its words. What the environment says beside the endpoint, the SDK reads:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tritonclip_server import __version__

SERVICE = "tritonclip-gateway"  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES have another name
ERROR = "error.type"
CLOSE_SECONDS = 2.0

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracer:
    """Makes the spans of all requests, and sends them by and by from a thread of its own."""

    def __init__(self) -> None:
        own = Resource.create({"service.name": SERVICE, "service.version": __version__})
        resource = own.merge(OTELResourceDetector().detect())
        # Not the global one, by which libraries would make spans that have paths and queries. `close` ends it, in time.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tritonclip_server.gateway", __version__)

    def begin(self, method: str, headers: Mapping[str, str]) -> "SpanTrace":
        """The span of a request that has come in, below its caller's where it names one. A sampler may leave it out."""
        span = self._tracer.start_span(
            method, _PROPAGATOR.extract(headers), SpanKind.SERVER, {"http.request.method": method, "url.scheme": "http"}
        )
        return SpanTrace(self, span, method)

    def below(self, parent: Span, name: str, kind: SpanKind, started: int | None = None) -> Span:
        """A span of a part; `started` is in nanoseconds since 1970."""
        return self._tracer.start_span(name, set_span_in_context(parent), kind, start_time=started)

    def close(self) -> None:
        """Send what is left, as far as that goes quickly: a collector that is away would be asked for many seconds."""
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class SpanTrace:
    """The spans of one request."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self.id: str | None = f"{span.get_span_context().trace_id:032x}"

    @contextmanager
    def span(self, name: str, *, call: bool = False) -> Iterator[Mapping[str, str]]:
        """A part of the request; what is called in it gets the headers that name this span, if it is recorded."""
        if not self._span.is_recording():
            yield {}
            return
        span = self._tracer.below(self._span, name, SpanKind.CLIENT if call else SpanKind.INTERNAL)
        headers: dict[str, str] = {}
        if call:
            _PROPAGATOR.inject(headers, set_span_in_context(span))
        try:
            yield headers
        except Exception as error:
            span.set_attribute(ERROR, type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()

    def end(self, describe: Callable[[], Mapping[str, str | int]], *, answer_seconds: float) -> None:
        """End the request's span, and the one of its answer."""
        if not self._span.is_recording():
            return
        now, attributes = time.time_ns(), describe()
        self._tracer.below(self._span, "answer", SpanKind.INTERNAL, now - round(answer_seconds * 1e9)).end(now)
        self._span.update_name(f"{self._method} {attributes['http.route']}")
        self._span.set_attributes(attributes)
        if ERROR in attributes:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(now)
