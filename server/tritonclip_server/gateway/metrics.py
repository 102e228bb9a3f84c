"""What /metrics shows, in a registry of its own, so that several gateways can live in one process (the tests do)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# From a cached text on a GPU host to a full queue on a CPU.
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The gateway's counters; each is named and explained in docs/gateway.md.

    The label `model` has names that the operator gave, and "" for a model without one and for what concerns none:
    what a caller makes up is in no label.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "tritonclip_gateway"
        self.requests = Counter(
            f"{prefix}_requests_total",
            "Requests answered, by endpoint, HTTP status (499: the caller hung up) and the model that was asked",
            ["endpoint", "status", "model"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "From a request's first byte to its answer's last",
            ["endpoint"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.items = Counter(
            f"{prefix}_items_total", "Images and texts taken on", ["kind", "model"], registry=self.registry
        )
        self.in_flight = Gauge(
            f"{prefix}_items_in_flight",
            "Places taken by what the model server works on: 1 an image, a quarter a text",
            ["model"],
            registry=self.registry,
        )
        self.bytes_in_flight = Gauge(
            f"{prefix}_bytes_in_flight", "Bytes of requests being worked on", registry=self.registry
        )
        self.waiting = Gauge(
            f"{prefix}_requests_waiting",
            "Requests that wait for room, by what they wait for",
            ["room", "model"],
            registry=self.registry,
        )
        self.waited_seconds = Histogram(
            f"{prefix}_waited_seconds",
            "For how long requests that were let in had waited for room",
            ["room"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.no_room = Counter(
            f"{prefix}_no_room_total",
            "Requests refused for want of room, by what they waited for and why they wait no longer",
            ["room", "reason"],
            registry=self.registry,
        )
        self.searches = Gauge(f"{prefix}_searches_in_flight", "Searches of indexes at work", registry=self.registry)
        self.connections = Gauge(f"{prefix}_connections", "Open connections of callers", registry=self.registry)
        self.rejections = Counter(
            f"{prefix}_rejections_total", "Requests refused, by error code", ["code"], registry=self.registry
        )
        self.text_cache = Counter(
            f"{prefix}_text_cache_total",
            "Texts looked up in the cache, by result",
            ["result", "model"],
            registry=self.registry,
        )
        self.cached_texts = Gauge(f"{prefix}_cached_texts", "Texts in the cache", ["model"], registry=self.registry)
        self.model_info = Gauge(
            f"{prefix}_model_info",
            "1, with what a model that answered was by its manifest",
            ["model", "variant", "fingerprint"],
            registry=self.registry,
        )
        self.model_ready = Gauge(
            f"{prefix}_model_ready",
            "Whether a model answered rightly when readiness was last asked for",
            ["model"],
            registry=self.registry,
        )
        self._described: dict[str, tuple[str, str, str]] = {}
        for room in ("bytes", "places", "searches"):
            for reason in ("too_many_wait", "waited_too_long"):
                self.no_room.labels(room, reason)

    def expect(self, model: str) -> None:
        """Have a model's counters there from the start, so that rates need no special case."""
        for result in ("hit", "miss"):
            self.text_cache.labels(result, model)
        for kind in ("image", "text"):
            self.items.labels(kind, model)
        self.in_flight.labels(model)
        self.cached_texts.labels(model)

    def describe(self, model: str, variant: str | None, fingerprint: str | None) -> None:
        """Say what a model is, in place of what it was."""
        if (before := self._described.get(model)) is not None:
            self.model_info.remove(*before)
        self._described[model] = described = (model, variant or "", fingerprint or "")
        self.model_info.labels(*described).set(1)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
