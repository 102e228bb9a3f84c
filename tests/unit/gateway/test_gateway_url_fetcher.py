"""Images from URLs: off unless asked for, and every way into this network tried."""

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.images import RED, RED_URL
from tests.unit.gateway.conftest import CLOSE, gateway_over, refuse
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.ssrf import Address, is_public
from tritonclip_server.gateway.fetching.url_fetcher import UrlFetcher, check_url
from tritonclip_server.gateway.settings import Settings, UrlImages

NOT_PUBLIC = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.9.9",
    "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200",
    "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "fec0::1", "100::1",
    "2001:db8::1", "2001::1", "2002:7f00:1::", "2002:0808:0808::1", "3fff::1",
    "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "::127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Site(BaseHTTPRequestHandler):
    """A web server with traps; `seen` has the paths that were asked for."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        getattr(self, "page_" + self.path.strip("/").partition("?")[0].replace(".", "_"))()

    def reply(self, body: bytes = RED, kind: str = "image/png", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def page_red_png(self) -> None:
        self.reply()

    def page_text_png(self) -> None:
        self.reply(b"root:x:0:0:root:/root:/bin/bash")

    def page_html(self) -> None:
        self.reply(RED, "text/html")

    def page_untyped(self) -> None:
        self.reply(RED, "application/octet-stream")

    def page_page(self) -> None:
        self.reply(b"<!DOCTYPE html><title>root", "image/png")

    def page_gzip(self) -> None:
        self.reply(b"\x1f\x8b" + bytes(20), content_encoding="gzip")

    def page_endless(self) -> None:
        self.reply(RED + bytes(2_000_000))

    def page_slow(self) -> None:
        self.reply(RED[:20])
        time.sleep(5)

    def page_teapot(self) -> None:
        self.reply(status=418)

    def page_hop(self) -> None:
        self.reply(b"", status=302, location="/red.png")

    def page_inward(self) -> None:
        self.reply(b"", status=302, location=f"http://inside.test:{self.server.server_port}/red.png")  # type: ignore[attr-defined]

    def page_to_file(self) -> None:
        self.reply(b"", status=302, location="file:///etc/passwd")

    def page_to_user(self) -> None:
        self.reply(b"", status=302, location=f"http://user:pw@site.test:{self.server.server_port}/red.png")  # type: ignore[attr-defined]

    def page_loop(self) -> None:
        self.reply(b"", status=302, location="/loop")

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """The site's URL with its name, and what it saw. It lies on loopback, which tests let `site.test` stand for."""

    class Handler(Site):
        seen: list[str] = []  # noqa: RUF012 - of this server alone

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://site.test:{server.server_port}", Handler.seen
    server.shutdown()
    server.server_close()


ANYWHERE = UrlImages()
NAMES = {
    "site.test": "127.0.0.1",
    "inside.test": "10.0.0.7",
    "mapped.test": "::ffff:10.0.0.7",
    "metadata.test": "169.254.169.254",
}


async def resolve(host: str, port: int) -> list[Address]:
    """Names of these tests; anything else as the system has it, `0x7f.1` and friends included."""
    if host in NAMES:
        return [ipaddress.ip_address(NAMES[host])]
    if host == "mixed.test":
        return [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.7")]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def fetch(url: str, options: UrlImages = ANYWHERE, *, trusting: bool = True) -> bytes:
    """Fetch with 127.0.0.1 taken for a public address (the test site lies there), unless not `trusting`."""

    def allowed(address: Address) -> bool:
        return is_public(address) or (trusting and str(address) == "127.0.0.1")

    async def main() -> bytes:
        fetcher = UrlFetcher(options, 1_000_000, resolve_host=resolve, allowed=allowed)
        try:
            return await fetcher.fetch(url, "image")
        finally:
            await fetcher.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize("page", ["/red.png", "/red.png?size=1#part", "/hop", "/html", "/untyped"])
def test_images_are_fetched(site: tuple[str, list[str]], page: str) -> None:
    assert fetch(site[0] + page) == RED


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("/text.png", "url_failed"),
        ("/page", "url_failed"),
        ("/gzip", "url_failed"),
        ("/endless", "image_too_large"),
        ("/teapot", "url_failed"),
        ("/loop", "url_failed"),
        ("/inward", "url_refused"),
        ("/to_file", "url_refused"),
        ("/to_user", "url_refused"),
    ],
)
def test_traps(site: tuple[str, list[str]], page: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(site[0] + page)
    assert caught.value.code == code
    assert caught.value.param == "image"
    assert "root" not in caught.value.message  # nothing of what the site answered
    assert len(site[1]) <= 4


def test_a_slow_site_is_given_up(site: tuple[str, list[str]]) -> None:
    with pytest.raises(ApiError, match=r"within 0\.3 s"):
        fetch(site[0] + "/slow", UrlImages(seconds=0.3))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "inside.test", "mapped.test", "metadata.test",
        "mixed.test", "169.254.169.254", "site.test",
    ],
)  # fmt: skip
def test_nothing_inside_is_reached(site: tuple[str, list[str]], host: str) -> None:
    port = site[0].rpartition(":")[2]
    with pytest.raises(ApiError) as caught:
        fetch(f"http://{host}:{port}/red.png", trusting=False)
    assert caught.value.code in ("url_refused", "url_failed")
    assert site[1] == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/a.png", "gopher://example.com/", "unix:///run/docker.sock",
        "http://", "http://user@example.com/", "http://user:pw@example.com/", "http://example.com:0/",
        "http://example.com:99999/", "http://[::1/", "http://" + "a" * 3000,
    ],
)  # fmt: skip
def test_urls_that_are_refused_unseen(url: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_url(url, "image")
    assert caught.value.code == "url_refused"


def test_a_name_is_resolved_once_and_the_address_kept(site: tuple[str, list[str]]) -> None:
    """DNS rebinding: the second answer would lead inside."""
    answers = iter(["127.0.0.1", "10.0.0.7"])
    asked = []

    async def rebinding(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address(next(answers))]

    async def main() -> bytes:
        fetcher = UrlFetcher(
            UrlImages(), 1_000_000, resolve_host=rebinding, allowed=lambda address: str(address) == "127.0.0.1"
        )
        return await fetcher.fetch(site[0] + "/red.png", "image")

    assert asyncio.run(main()) == RED
    assert asked == ["site.test"]


def test_an_allow_list_of_hosts(site: tuple[str, list[str]]) -> None:
    assert fetch(site[0] + "/red.png", UrlImages(hosts=frozenset({"site.test"}))) == RED
    with pytest.raises(ApiError) as caught:
        fetch(site[0] + "/red.png", UrlImages(hosts=frozenset({"example.com"})))
    assert caught.value.code == "url_refused"
    assert len(site[1]) == 1


def test_a_proxy_of_the_environment_is_not_used(site: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(site[0] + "/red.png") == RED


def test_a_gateway_that_may_fetch_embeds_what_it_fetched(site: tuple[str, list[str]]) -> None:
    options = UrlImages()
    fetcher = UrlFetcher(options, 1_000_000, resolve_host=resolve, allowed=lambda address: str(address) == "127.0.0.1")
    fake = FakeServer(refuse=refuse)
    with gateway_over(fake, Settings(url_images=options), fetcher=fetcher) as gateway:
        images = [site[0] + "/red.png", RED_URL, "http://inside.test/red.png"]
        answer = gateway.post("/v1/similarity", images=images, texts=["a"], partial=True)
        assert answer["cosine"][0] == pytest.approx(answer["cosine"][1], abs=CLOSE)
        assert [(error["param"], error["code"]) for error in answer["errors"]] == [("images[2]", "url_refused")]
        assert gateway.refused("/v1/similarity", 400, image="ftp://site.test/a", text="a")["code"] == "url_refused"
