"""What may stand for an image at a URL, and what a redirect may lead to: each fails alone, in a line of its own."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.unit.client.conftest import Command
from tritonclip._fetch import Remote

NO_URLS = (
    "http://",
    "HTTP:///x.png",
    "https://:80/x.png",
    "http://[::1/x.png",
    "http://localhost:port/x.png",
    "http://xn--/x.png",
    f"http://{'a' * 300}/x.png",
    "http://a\tb/x.png",
)
REDIRECTS = ("ftp://127.0.0.1/x.png", "file:///etc/hostname", "http://", "http://xn--/", "http://[::1/", "gopher:x")


class _Redirects(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", REDIRECTS[int(self.path[1:])])
        self.end_headers()


@pytest.fixture(scope="module")
def redirecting() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirects)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_one_failed_item(url: str, command: Command) -> None:
    assert command("embed", url, "--format", "npy") == 1
    assert command.err.startswith("tritonclip: ")
    assert "cannot fetch" in command.err
    assert len(command.err.splitlines()) == 1


@pytest.mark.parametrize("url", ["http://a\udc80b/x.png", "http://127.0.0.1/\udc80"])
def test_a_url_that_is_no_unicode_is_an_error_of_files(url: str) -> None:
    with pytest.raises(OSError, match="cannot fetch"):
        Remote(url).read()


@pytest.mark.parametrize("number", range(len(REDIRECTS)))
def test_a_redirect_that_leads_nowhere_is_an_error_of_files(number: int, redirecting: str) -> None:
    with pytest.raises(OSError, match=r"cannot fetch .*: \S"):
        Remote(f"{redirecting}/{number}").read()
