"""How Triton is told to send its spans, wherever it runs.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 ─> --trace-config=… ─> a span of each request that names a trace

Where they go, Triton's own SDK reads from the environment, and sends them by OTLP over HTTP. It starts no trace itself:
who asks decides what is recorded, and those who watch it name none.

Runs in any Python 3 without packages: the production container has this file beside start_triton.
"""

from collections.abc import Mapping

# With a rate of 0 Triton records what carries a `traceparent`, and nothing else.
SETTINGS = {"mode": "opentelemetry", "level": "TIMESTAMPS", "rate": "0", "count": "-1"}


def trace_flags(environment: Mapping[str, str]) -> list[str]:
    """Flags of tritonserver where the environment has an endpoint for spans; none where it has none, or says no."""
    if not environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return []
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    return [f"--trace-config={name}={value}" for name, value in SETTINGS.items()]
