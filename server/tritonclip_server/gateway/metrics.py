"""What /metrics shows, in a registry of its own, so that several gateways can live in one process (the tests do)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# From a cached text on a GPU host to a full queue on a CPU.
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The gateway's counters; each is named and explained in docs/gateway.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "tritonclip_gateway"
        self.requests = Counter(
            f"{prefix}_requests_total",
            "Requests answered, by endpoint and HTTP status (499: the caller hung up)",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "From a request's first byte to its answer's last",
            ["endpoint"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.items = Counter(f"{prefix}_items_total", "Images and texts taken on", ["kind"], registry=self.registry)
        self.in_flight = Gauge(
            f"{prefix}_items_in_flight",
            "Places taken by what the model server works on: 1 an image, a quarter a text",
            registry=self.registry,
        )
        self.bytes_in_flight = Gauge(
            f"{prefix}_bytes_in_flight", "Bytes of requests being worked on", registry=self.registry
        )
        self.waiting = Gauge(
            f"{prefix}_requests_waiting",
            "Requests that wait for room, by what they wait for",
            ["room"],
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
            f"{prefix}_text_cache_total", "Texts looked up in the cache, by result", ["result"], registry=self.registry
        )
        self.cached_texts = Gauge(f"{prefix}_cached_texts", "Texts in the cache", registry=self.registry)
        for result in ("hit", "miss"):  # there from the start, so that rates need no special case
            self.text_cache.labels(result)
        for kind in ("image", "text"):
            self.items.labels(kind)
        for room in ("bytes", "places", "searches"):
            for reason in ("too_many_wait", "waited_too_long"):
                self.no_room.labels(room, reason)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
