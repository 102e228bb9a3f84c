"""What needs a key, however it is spelt and wherever the gateway is mounted; and who may ask where none is needed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from tests.gateway_server import GatewayProcess, listening
from tests.raw_http import exchange, statuses
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.access.policy import OPEN_PATHS, foreign, is_open
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.settings import Settings


def application(settings: Settings) -> Starlette:
    return create_app(AsyncClient(transport=FakeServer().async_transport()), settings)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    KeyFile(tmp_path / "keys.json").create("alice")
    return tmp_path / "keys.json"


ODD_PATHS = [
    "/v1", "/v1/", "//v1/embeddings", "/V1/embeddings", "/./v1/embeddings", "/v1/../v1/embeddings", "/v1//embeddings",
    "/%76%31/embeddings", "/v1%2fembeddings", "/v1/embeddings/", "/v1/embeddings.", "/v1/embeddings%00",
    "/v1;x/embeddings", "/v3/embeddings", "/nothing", "/metrics//x", "/metrics;/", "/metrics/../v1/models",
    "/health/live/x", "/.well-known", "/docs", "/Metrics", "/page.css/../v1/models", "/openapi.json.", "/metrics%2f%00",
    "/v1/models?path=/metrics", "/v2/rerank#/metrics",
]  # fmt: skip


def test_whatever_is_no_open_path_needs_a_key(keys: Path) -> None:
    """401 before 404 or 405, by any method; sent as they are, with no library to tidy them up."""
    with listening(create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=keys))) as url:
        for path in [*ODD_PATHS, "http://localhost/v1/models", "*", "/v1/models\\..\\metrics"]:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE", "PURGE"):
                sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                assert statuses(exchange(url, sent.encode())) in ([401], [400]), (method, path)


def test_open_paths_are_those_that_exist_and_are_no_api(keys: Path) -> None:
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=keys))
    with TestClient(app) as http:
        for path in OPEN_PATHS:
            assert http.get(path).status_code in (200, 204)
            assert http.head(path).status_code in (200, 204)
            assert http.post(path).status_code == 401
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                answer = http.request(method, path)
                assert (answer.status_code == 401) is not (path in OPEN_PATHS and method == "get"), path


@pytest.mark.parametrize("prefix", ["/clip", "/clip/v1", "/metrics", "/v1", "/health/live"])
def test_mounted_in_another_application(keys: Path, prefix: str) -> None:
    outer = Starlette(routes=[Mount(prefix, application(Settings(keys=keys)))])
    with TestClient(outer) as http:
        assert http.get(f"{prefix}/v1/models").status_code == 401
        assert http.post(f"{prefix}/v1/embeddings", json={"input": "a"}).status_code == 401
        assert http.get(f"{prefix}/health/live").status_code == 200


@pytest.mark.parametrize("root", ["", "/clip", "/metrics", "/v1"])
@pytest.mark.parametrize("kept", [True, False])
def test_behind_a_root_path(keys: Path, root: str, kept: bool) -> None:
    """Whether the server leaves it in the path or not."""
    inner = application(Settings(keys=keys))

    async def rooted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": root, "path": (root if kept else "") + scope["path"]}
        await inner(scope, receive, send)

    with TestClient(rooted) as http:
        assert http.get("/v1/models").status_code == 401
        assert http.get("/v2/rerank").status_code == 401
        assert http.get("/health/live").status_code == 200


def test_a_path_is_open_as_the_router_takes_it() -> None:
    get = {"method": "GET"}
    assert is_open(get | {"path": "/metrics"})
    assert is_open({"method": "HEAD", "path": "/metrics"})
    assert not is_open({"method": "POST", "path": "/"})
    assert is_open(get | {"path": "/clip/metrics", "root_path": "/clip"})
    assert not is_open(get | {"path": "/clipmetrics", "root_path": "/clip"})
    assert not is_open(get | {"path": "/clip", "root_path": "/clip"})
    assert is_open(get | {"path": "/metrics", "root_path": "/met"})
    assert not is_open(get | {"path": "/metrics", "root_path": "/metrics"})


def test_a_web_socket_is_no_way_round(keys: Path) -> None:
    sent: list[Message] = []

    async def talk() -> None:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await application(Settings(keys=keys))({"type": "websocket", "path": "/v1/x", "headers": []}, receive, send)

    asyncio.run(talk())
    assert [message["type"] for message in sent] == ["websocket.close"]


FOREIGN = [
    ({}, None),
    ({"host": "localhost"}, None),
    ({"host": "LOCALHOST:8080"}, None),
    ({"host": "127.0.0.1:8080"}, None),
    ({"host": "127.1.2.3"}, None),
    ({"host": "[::1]:8080"}, None),
    ({"host": "My-Box:8080"}, None),
    ({"host": "localhost:8080", "origin": "http://localhost:8080"}, None),
    ({"host": "localhost:8080", "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"}, None),
    ({"host": "localhost:8080", "origin": "http://127.0.0.1:3000", "sec-fetch-site": "cross-site"}, None),
    ({"host": "localhost:8080", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, None),
    ({"host": "localhost:8080", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, None),
    ({"host": "evil.example"}, "Host"),
    ({"host": "127.0.0.1.evil.example:8080"}, "Host"),
    ({"host": "localhost.evil.example"}, "Host"),
    ({"host": "localhost@evil.example"}, "Host"),
    ({"host": "192.168.1.7:8080"}, "Host"),
    ({"host": "0.0.0.0:8080"}, "Host"),
    ({"host": "169.254.169.254"}, "Host"),
    ({"host": ""}, "Host"),
    ({"host": "[::1"}, "Host"),
    ({"host": "localhost:99999"}, "Host"),
    ({"host": "localhost", "origin": "http://evil.example"}, "Origin"),
    ({"host": "localhost", "origin": "https://localhost.evil.example"}, "Origin"),
    ({"host": "localhost", "origin": "null"}, "Origin"),
    ({"host": "localhost", "origin": ""}, "Origin"),
    ({"host": "localhost", "origin": "file://"}, "Origin"),
    ({"host": "localhost", "origin": "chrome-extension://localhost"}, "Origin"),
    ({"host": "localhost", "sec-fetch-site": "cross-site"}, "Sec-Fetch-Site"),
    ({"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "Sec-Fetch-Site"),
]


@pytest.mark.parametrize(("headers", "betrayed"), FOREIGN)
def test_what_betrays_another_sites_page(headers: dict[str, str], betrayed: str | None) -> None:
    assert foreign("GET", headers, "my-box") == betrayed


def test_a_form_that_navigates_is_still_foreign() -> None:
    headers = {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert foreign("POST", headers, "localhost") == "Sec-Fetch-Site"


@pytest.fixture(scope="module")
def open_gateway() -> Iterator[str]:
    """As it is started without keys."""
    running = GatewayProcess(fake=0)
    yield running.url
    running.stop()


@pytest.mark.parametrize("name", ["host", "origin"])
@pytest.mark.parametrize("foreign_first", [True, False])
def test_who_names_two_hosts_comes_by_none(open_gateway: str, name: str, foreign_first: bool) -> None:
    own, other = ("localhost", "evil.example") if name == "host" else ("http://localhost", "http://evil.example")
    values = [other, own] if foreign_first else [own, other]
    lines = [f"{name}: {value}" for value in values] + ([] if name == "host" else ["Host: localhost"])
    said = "\r\n".join(["GET /v1/models HTTP/1.1", *lines, "Connection: close", "", ""])
    answer = exchange(open_gateway, said.encode())
    assert statuses(answer) == [403]
    assert b"forbidden_origin" in answer


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models", "/", "/metrics", "/health/live", "/nothing"])
@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
def test_a_gateway_without_keys_answers_no_foreign_page(open_gateway: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx.post(open_gateway + path, json={"input": "a"}, headers=headers, timeout=30)
    assert answer.status_code == 403
    assert '"code":"forbidden_origin"' in answer.text


def test_a_gateway_without_keys_answers_programs_and_its_own_page(open_gateway: str) -> None:
    port = open_gateway.rpartition(":")[2]
    for headers in ({}, {"host": "localhost"}, {"origin": open_gateway}, {"origin": f"http://localhost:{port}"}):
        answer = httpx.post(f"{open_gateway}/v1/embeddings", json={"input": "a"}, headers=headers, timeout=30)
        assert answer.status_code == 200


def test_with_keys_any_name_will_do(keys: Path) -> None:
    """A gateway in a container is called by the container's name, and what a foreign page sends has no key."""
    secret = KeyFile(keys).create("bob")[1]
    with TestClient(application(Settings(keys=keys, host="0.0.0.0"))) as http:
        headers = {"authorization": f"Bearer {secret}", "host": "gateway:8080", "origin": "https://app.example"}
        assert http.post("/v1/embeddings", json={"input": "a"}, headers=headers).status_code == 200
        assert http.get("/health/live", headers={"host": "gateway:8080"}).status_code == 200
