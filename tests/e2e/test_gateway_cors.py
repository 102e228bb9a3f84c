"""Pages of other origins in a real browser: what its scripts get to see of the gateway, and what the log says."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from tests.gateway_server import GatewayProcess
from tritonclip_server.gateway.access.keys import KeyFile

ASK = """
const [url, headers, done] = arguments;
fetch(url + "/v1/embeddings", {method: "POST", headers, body: JSON.stringify({input: "a"})}).then(
  async (answer) => done({
    status: answer.status,
    body: await answer.json(),
    headers: Object.fromEntries(answer.headers),
  }),
  (error) => done({error: String(error)}),
);
"""


class Blank(http.server.BaseHTTPRequestHandler):
    """A page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>app</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The origin of another site, by a name that is not the gateway's own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://app.localhost:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")
    return file.path, file.create("page", requests_per_minute=1)[1]


def ask(browser: webdriver.Chrome, page: str, gateway: GatewayProcess, **headers: str) -> dict[str, Any]:
    """What a script of the page gets."""
    browser.get(page)
    said: dict[str, Any] = browser.execute_async_script(ASK, gateway.url, headers)
    return said


def test_a_page_that_is_let_in_reads_answers_and_errors(
    browser: webdriver.Chrome, app: str, key: tuple[Path, str]
) -> None:
    gateway = GatewayProcess("--keys", str(key[0]), "--allow-origin", app, fake=0)
    try:
        headers = {"authorization": f"Bearer {key[1]}", "content-type": "application/json", "x-stainless-lang": "js"}
        answer = ask(browser, app, gateway, **headers)
        assert (answer["status"], answer["body"]["object"]) == (200, "list")
        assert {"x-request-id", "x-model-fingerprint", "x-ratelimit-remaining-requests"} <= set(answer["headers"])
        limited = ask(browser, app, gateway, **headers)
        assert (limited["status"], limited["body"]["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(limited["headers"]["retry-after"]) > 0
        refused = ask(browser, app, gateway, authorization="Bearer nothing")
        assert (refused["status"], refused["body"]["error"]["code"]) == (401, "invalid_api_key")
    finally:
        gateway.stop()


def test_a_page_that_is_not_let_in_sees_nothing_and_the_log_says_why(
    browser: webdriver.Chrome, app: str, key: tuple[Path, str]
) -> None:
    gateway = GatewayProcess("--keys", str(key[0]), "--allow-origin", "https://app.example", fake=0)
    try:
        assert "Failed to fetch" in ask(browser, app, gateway, authorization="Bearer nothing")["error"]
    finally:
        gateway.stop()
    assert gateway.said.count(f"--allow-origin {app}") == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_without_keys_a_page_asks_where_it_is_named(browser: webdriver.Chrome, app: str, allowed: bool) -> None:
    gateway = GatewayProcess(*(("--allow-origin", app) if allowed else ()), fake=0)
    try:
        answer = ask(browser, app, gateway)
        assert answer.get("status") == (200 if allowed else None), answer
    finally:
        gateway.stop()
