"""Pages of other origins: who is let in, what their browsers are told, and the hint for those that are not."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip import ConfigError
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.access.policy import foreign
from tritonclip_server.gateway.access.rate_limit import RateLimiter
from tritonclip_server.gateway.cli import main
from tritonclip_server.gateway.http.cors import EXPOSED, HINTED_ORIGINS, parse_origin
from tritonclip_server.gateway.settings import Limits, Settings

APP = "https://app.example"
OTHER = "https://other.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-lang"}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    file = KeyFile(tmp_path / "keys.json")
    return file.path, file.create("alice", requests_per_minute=2)[1]


@pytest.fixture
def gateway(fake: FakeServer, keys: tuple[Path, str]) -> Iterator[Gateway]:
    settings = Settings(
        keys=keys[0], origins=frozenset({APP, "http://localhost:3000"}), limits=Limits(body_bytes=10_000)
    )
    with gateway_over(fake, settings) as running:
        yield running


def test_a_preflight_needs_no_key(gateway: Gateway) -> None:
    for path in ("/v1/embeddings", "/v2/embed", "/nothing", "/health/live"):
        answer = gateway.http.options(path, headers={"origin": APP, **ASKS})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "origin" in answer.headers["vary"]
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize("named", ["", "a\xe9b", "a:b", "x" * 5000])
def test_headers_that_are_none_are_not_told_back(gateway: Gateway, named: str) -> None:
    asks = [("origin", APP), ("access-control-request-method", "POST")]
    raw = [
        (name.encode(), value.encode("latin-1")) for name, value in [*asks, ("access-control-request-headers", named)]
    ]
    answer = gateway.http.options("/v1/embeddings", headers=raw)
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://app.example", f"{APP}:8443", f"{APP}.evil.example", f"x{APP}"]
)
def test_other_pages_are_not_let_in(gateway: Gateway, origin: str) -> None:
    preflight = gateway.http.options("/v1/embeddings", headers={"origin": origin, **ASKS})
    assert preflight.status_code == 401
    answer = gateway.http.get("/health/live", headers={"origin": origin})
    for each in (preflight, answer):
        assert not [name for name in each.headers if name.startswith("access-control")]
        assert each.headers["vary"] == "origin"


def test_what_asks_for_nothing_is_no_preflight(gateway: Gateway) -> None:
    assert gateway.http.options("/v1/embeddings", headers={"origin": APP}).status_code == 401
    answer = gateway.http.request("OPTIONS", "/v1/embeddings", headers={"origin": APP, **ASKS}, content=b"a body")
    assert answer.status_code == 401


def test_every_answer_is_for_the_page_errors_too(gateway: Gateway, keys: tuple[Path, str]) -> None:
    headers = {"origin": APP, "authorization": f"Bearer {keys[1]}"}
    answers = [
        gateway.http.post("/v1/embeddings", json={"input": "a"}, headers={"origin": APP}),
        gateway.http.post("/v1/embeddings", content=b"a" * 20_000, headers=headers),
        gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=headers),
        gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=headers),
        gateway.http.get("/health/live", headers={"origin": APP}),
    ]
    assert [answer.status_code for answer in answers] == [401, 413, 200, 429, 200]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-expose-headers"] == EXPOSED


def test_what_is_exposed_is_what_answers_have(gateway: Gateway, keys: tuple[Path, str]) -> None:
    said: dict[str, str] = {}
    key = KeyFile(keys[0]).create("bob", requests_per_minute=1, images_per_minute=1)[0]
    for unit in ("requests", "images"):
        RateLimiter().charge(key, unit, 1, said)
    answer = gateway.http.get("/health/live")
    exposed = set(EXPOSED.split(", "))
    assert exposed == {
        *said,
        "x-request-id",
        "x-model-fingerprint",
        "x-truncated",
        "x-activation",
        "retry-after",
        "retry-after-ms",
    }
    assert {name for name in answer.headers if name.startswith("x-")} <= exposed


def test_any_page_where_any_is_named(fake: FakeServer) -> None:
    with gateway_over(fake, Settings(origins=frozenset({"*"}), host="localhost")) as gateway:
        for origin in (APP, "null", "chrome-extension://abc"):
            headers = {"host": "localhost", "origin": origin}
            answer = gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
            assert "vary" not in answer.headers


def test_no_page_by_default(fake: FakeServer) -> None:
    with gateway_over(fake) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": "a"}, headers={"origin": APP})
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (200, False)
        assert gateway.http.options("/v1/embeddings", headers={"origin": APP, **ASKS}).status_code == 405


def test_without_keys_an_origin_that_is_named_may_ask(fake: FakeServer) -> None:
    local = {"host": "localhost", "sec-fetch-site": "cross-site"}
    with gateway_over(fake, Settings(origins=frozenset({APP}), host="localhost")) as gateway:

        def post(**headers: str) -> Any:
            return gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=local | headers)

        assert post(origin=APP).status_code == 200
        refused = post(origin=OTHER)
        assert refused.status_code == 403
        assert "--allow-origin" in refused.json()["error"]["message"]
        assert post(origin=APP, host="evil.example").status_code == 403  # a name made to lead here
        assert post().status_code == 403
    assert foreign("POST", {"host": "localhost", "origin": APP}, "localhost") == "Origin"


def test_a_public_page_may_ask_a_private_gateway(gateway: Gateway) -> None:
    headers = {"origin": APP, **ASKS}
    name = "access-control-allow-private-network"
    assert name not in gateway.http.options("/v1/embeddings", headers=headers).headers
    headers["access-control-request-private-network"] = "true"
    assert gateway.http.options("/v1/embeddings", headers=headers).headers[name] == "true"


def hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "--allow-origin" in line]


def test_a_page_that_is_not_let_in_leaves_a_hint_once(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        gateway.http.options("/v1/embeddings", headers={"origin": OTHER, **ASKS})
        gateway.http.post("/v1/embeddings", headers={"origin": "null"})
    assert [line.rpartition("--allow-origin ")[2].split()[0] for line in hints(caplog)] == [OTHER, "'*'"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": APP},
        {"origin": "http://testserver"},
        {"origin": "https://public.example", "sec-fetch-site": "same-origin"},
        {"origin": "https://evil.example/ --keys none"},
        {"origin": "https://evil.example\tx"},
        {"origin": f"https://{'a' * 300}"},
        {"origin": "words"},
    ],
)
def test_no_hint_where_there_is_nothing_to_say(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    gateway.http.post("/v1/embeddings", headers=headers)
    assert hints(caplog) == []


def test_hints_are_bounded(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(HINTED_ORIGINS + 5):
        gateway.http.get("/health/live", headers={"origin": f"https://{number}.example"})
    assert len(hints(caplog)) == HINTED_ORIGINS


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        (APP, APP),
        (f"{APP}/", APP),
        ("HTTPS://App.Example:443", APP),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://app.example:80", "https://app.example:80"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_origins_as_people_write_them(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "app.example", "localhost:3000", "https://", "https://app.example/page", "https://app.example#x",
        "https://app.example?", "https://a@app.example", "https://*.example", "https://a b", "https://app.example:",
        "http://a:x", "http://a:0", "http://a:99999",
    ],
)  # fmt: skip
def test_what_is_no_origin(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--allow-origin"):
        parse_origin(text)
    assert main([f"--allow-origin={text}", "--port", "0"]) == 1
    assert "https://app.example" in capsys.readouterr().err
