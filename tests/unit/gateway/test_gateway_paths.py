"""Paths as programs spell them, and HEAD."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tests.gateway_server import listening
from tests.raw_http import exchange, statuses
from tests.unit.gateway.conftest import Gateway
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.access.policy import OPEN_PATHS
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.settings import Settings


@pytest.mark.parametrize("path", ["/v1/embeddings/", "//v1/embeddings", "/v1/embeddings//", "///v1/embeddings/"])
def test_slashes_at_either_end_say_nothing(gateway: Gateway, path: str) -> None:
    answer = gateway.http.post(f"http://testserver{path}", json={"input": "a"}, follow_redirects=False)
    assert answer.status_code == 200
    assert gateway.metric('tritonclip_gateway_requests_total{endpoint="/v1/embeddings",status="200"}') == 1


def test_slashes_inside_are_another_path(gateway: Gateway) -> None:
    assert gateway.http.post("/v1//embeddings", json={"input": "a"}).status_code == 404


def test_a_mounted_gateway_tidies_its_own_part(tmp_path: Path) -> None:
    KeyFile(tmp_path / "keys.json").create("alice")
    inner = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=tmp_path / "keys.json"))
    with TestClient(Starlette(routes=[Mount("/clip", inner)])) as http:
        assert http.get("/clip//health/live/").status_code == 200
        assert http.get("/clip/").status_code == 200
        assert http.get("/clip/v1/models/").status_code == 401
        assert http.get("/clip//clip/health/live").status_code == 401


def test_what_is_open_is_open_with_a_slash_and_nothing_else_is(tmp_path: Path) -> None:
    KeyFile(tmp_path / "keys.json").create("alice")
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=tmp_path / "keys.json"))
    with TestClient(app, base_url="http://localhost") as http:
        for path in OPEN_PATHS:
            assert http.get(f"http://localhost/{path}/").status_code in (200, 204), path
            assert http.post(f"http://localhost/{path}/").status_code == 401
        for path in ("//v1/models", "/v1/models/", "/metrics/x/", "//v1/models//"):
            assert http.get(f"http://localhost{path}").status_code == 401


def test_head_is_answered_as_get_without_its_body() -> None:
    """By the server itself: the length of what is left out is said, and the connection goes on."""
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings())
    with listening(app) as url:
        for path in ("/v1/models", "/health", "/metrics", "/", "/v1/models/fake", "/v1/models/", "/info"):
            both = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET {path} HTTP/1.1\r\nHost: localhost\r\n"
            answer = exchange(url, f"{both}Connection: close\r\n\r\n".encode())
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert statuses(head) == [200], path
            assert rest.startswith(b"HTTP/1.1 200"), path  # no body stands between
            assert b"content-length: " in head
        refused = exchange(url, b"HEAD /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert statuses(refused) == [405]
        assert refused.endswith(b"\r\n\r\n")


def test_head_needs_a_key_and_is_logged_as_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyFile(tmp_path / "keys.json").create("alice")
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=tmp_path / "keys.json"))
    caplog.set_level("INFO")
    with TestClient(app) as http:
        assert http.head("/v1/models").status_code == 401
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gateway.request"]
    assert " HEAD /v1/models status=401 " in line


@pytest.mark.parametrize(("path", "version", "has_data"), [("/v1", "1", True), ("/v2", "2", False), ("", "1", False)])
def test_a_ranking_goes_by_its_route_wherever_that_is_mounted(path: str, version: str, has_data: bool) -> None:
    inner = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings())
    for prefix, app in (("", inner), ("/clip", Starlette(routes=[Mount("/clip", inner)]))):
        with TestClient(app, base_url="http://127.0.0.1") as http:
            answer = http.post(f"{prefix}{path}/rerank/", json={"query": "a", "documents": ["b", "c"]}).json()
        assert answer["meta"]["api_version"] == {"version": version}
        assert ("data" in answer) == has_data
