"""How many requests wait for a model, as Triton's metrics say; tests/e2e/test_faults.py asks a real Triton."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.modules import MODELS, load_module

pending = load_module(MODELS / "image_preprocess" / "1" / "pending.py")
METRICS = b"""# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="image_encoder_large",version="1"} 7
nv_inference_pending_request_count{model="image_encoder",version="1"} 12
nv_inference_count{model="image_encoder",version="1"} 300
"""


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(METRICS if self.path == "/metrics" else b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(pending, "TIMEOUT_SECONDS", 60.0)  # no answer is 0, too, which a slow machine must not give
        monkeypatch.setenv(pending.VARIABLE, f"http://127.0.0.1:{server.server_port}/metrics")
        yield server
        server.shutdown()
        thread.join()


def test_the_models_own_count_is_read(metrics: http.server.HTTPServer) -> None:
    assert pending.pending_requests("image_encoder") == 12


def test_a_model_that_is_not_there_has_none(metrics: http.server.HTTPServer) -> None:
    assert pending.pending_requests("text_encoder") == 0


def test_without_metrics_none_are_known_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pending.VARIABLE, raising=False)
    assert pending.pending_requests("image_encoder") == 0
    monkeypatch.setenv(pending.VARIABLE, "http://127.0.0.1:9/metrics")
    assert pending.pending_requests("image_encoder") == 0
