"""Images from URLs take nothing from those who need none: places, memory, or the threads that decode."""

import asyncio
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.gateway_server import listening
from tests.images import BLUE_URL, RED, RED_URL, base64_of, encoded
from tests.raw_http import connect, post
from tests.unit.gateway.conftest import gateway_over, refuse
from tests.waiting import wait_for
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.content.items import BadItem, ImageItem, Item, TextItem
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.ssrf import Address
from tritonclip_server.gateway.fetching.url_fetcher import Grow, UrlFetcher
from tritonclip_server.gateway.fetching.url_loader import UrlLoader
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.settings import Limits, Settings, UrlImages

EMBED = "/v1/embeddings"


class Sites(UrlFetcher):
    """Fetches what `answer` says, and knows how many are under way, and which were the most."""

    def __init__(self, answer: Callable[[str], bytes | float], options: UrlImages | None = None) -> None:
        super().__init__(options or UrlImages(), 10 * 2**20)
        self._answer = answer
        self.now = self.most = 0
        self.asked: list[str] = []

    async def fetch(self, url: str, param: str, grow: Grow = lambda _: None) -> bytes:
        self.asked.append(url)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            answer = self._answer(url)
            if isinstance(answer, float):
                await asyncio.sleep(answer)
                raise ApiError("url_failed", "no image within 10 s", param=param)
            await asyncio.sleep(0.001)
            for start in range(0, len(answer), 2**16):
                grow(len(answer[start : start + 2**16]))
            return answer
        finally:
            self.now -= 1


def hanging(url: str) -> bytes | float:
    return 60.0 if "hang" in url else RED


def urls(count: int, word: str = "hang") -> list[Item]:
    return [ImageItem(f"http://{word}.test/{index}.png", f"images[{index}]") for index in range(count)]


def test_a_caller_has_so_many_at_once_and_all_so_many() -> None:
    async def main() -> tuple[int, int, int]:
        options = UrlImages(at_once=6, at_once_each=4)
        sites = Sites(lambda _: 0.05, options)
        fetching = UrlLoader(sites, options, 10**9)

        async def ask(caller: str) -> None:
            await fetching.fetched(caller, urls(10), lambda _: None)

        await ask("a")
        alone = sites.most
        await asyncio.gather(ask("a"), ask("a"))
        twice = sites.most
        await asyncio.gather(ask("a"), ask("b"))
        return alone, twice, sites.most

    assert asyncio.run(main()) == (4, 4, 6)


def test_one_callers_hanging_sites_keep_nobody_waiting() -> None:
    async def main() -> float:
        options = UrlImages()
        fetching = UrlLoader(Sites(hanging, options), options, 10**9)
        slow = [asyncio.create_task(fetching.fetched("a", urls(64), lambda _: None)) for _ in range(3)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await fetching.fetched("b", urls(64, "quick"), lambda _: None)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return time.monotonic() - started

    assert asyncio.run(main()) < 10  # where the others take a minute


def test_fetching_takes_no_place_of_items_in_flight() -> None:
    """64 hanging URLs held all the places, and everybody else was refused."""
    options = UrlImages()
    sites = Sites(hanging, options)
    app = create_app(
        AsyncClient(transport=FakeServer(refuse=refuse).async_transport()),
        Settings(limits=Limits(items_in_flight=8, seconds=60), url_images=options),
        fetcher=sites,
    )
    with listening(app) as url:
        slow = [f"http://hang.test/{index}.png" for index in range(64)]
        caller = connect(url)
        caller.sendall(post(EMBED, json.dumps({"input": slow, "modality": "image"}).encode()))
        wait_for(lambda: sites.now > 0)
        for _ in range(5):
            answer = httpx.post(f"{url}{EMBED}", json={"input": ["a", RED_URL] * 4}, timeout=30)
            assert answer.status_code == 200
            assert 'items_in_flight{model=""} 0.0' in httpx.get(f"{url}/metrics", timeout=30).text
        assert sites.now > 0
        caller.close()
        quick = httpx.post(f"{url}{EMBED}", json={"input": {"image": "http://quick.test/a.png"}}, timeout=30)
        assert quick.status_code == 200
        wait_for(lambda: sites.now == 0)  # whoever hung up, hung up on the sites as well


def test_what_is_fetched_for_a_request_is_bounded_as_its_body_is(fake: FakeServer) -> None:
    """64 images of 10 MiB each were 1.3 GB."""
    large = encoded("PNG", (8, 8)) + bytes(300_000)
    held: list[int] = []
    options = UrlImages()
    settings = Settings(limits=Limits(body_bytes=1_000_000), url_images=options)
    with (
        gateway_over(fake, settings, fetcher=Sites(lambda _: large, options)) as gateway,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(RequestContext, "hold_more", lambda _self, count: held.append(count))
        images = [f"http://site.test/{index}.png" for index in range(10)]
        answer = gateway.post("/v1/similarity", images=[RED_URL, *images], text="a", partial=True)
        codes = {error["code"] for error in answer["errors"]}
        assert codes == {"image_too_large"}
        assert len(answer["errors"]) >= 10 - 3
        assert answer["errors"][0]["param"].startswith("images[")
        assert sum(held) <= 1_000_000
        assert sum(held) >= len(large)


def test_bytes_that_are_not_to_be_had_fail_the_image_that_wanted_them() -> None:
    options = UrlImages()

    def full(count: int) -> None:
        raise ApiError("overloaded", f"no room for {count}")

    async def main() -> Any:
        items: list[Item] = [TextItem("a", "input[0]"), *urls(1, "quick"), ImageItem(RED, "input[2]")]
        return await UrlLoader(Sites(hanging, options), options, 10**9).fetched("a", items, full)

    text, fetched, uploaded = asyncio.run(main())
    assert (text, uploaded) == (TextItem("a", "input[0]"), ImageItem(RED, "input[2]"))
    assert isinstance(fetched, BadItem)
    assert (fetched.error.code, fetched.error.param) == ("overloaded", "images[0]")


def test_images_a_minute_are_charged_before_they_are_fetched(fake: FakeServer, tmp_path: Any) -> None:
    file = KeyFile(tmp_path / "keys.json")
    _, secret = file.create("alice", images_per_minute=2)
    options = UrlImages()
    sites = Sites(hanging, options)
    with gateway_over(fake, Settings(keys=file.path, url_images=options), fetcher=sites) as gateway:
        headers = {"authorization": f"Bearer {secret}"}
        images = [f"http://quick.test/{index}.png" for index in range(3)]
        answer = gateway.http.post("/v1/similarity", json={"images": images, "text": "a"}, headers=headers)
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert sites.asked == []
        answer = gateway.http.post("/v1/similarity", json={"images": images[:2], "text": "a"}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-remaining-images"] == "0"
        assert sorted(sites.asked) == images[:2]


NAMES = {"xn--mller-kva.test": "127.0.0.1", "site.test": "127.0.0.1"}


async def resolve(host: str, port: int) -> list[Address]:
    assert host.isascii()
    return [ipaddress.ip_address(NAMES[host])] if host in NAMES else []


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://müller.test:{port}/a.png", "xn--mller-kva.test:{port}"),
        ("http://MÜLLER.test:{port}/ä ö.png?q=ü#x", "xn--mller-kva.test:{port}"),
        ("http://xn--mller-kva.test:{port}/%C3%A4.png", "xn--mller-kva.test:{port}"),
        ("http://m\u00fcller\u3002test:{port}/a.png", "xn--mller-kva.test:{port}"),
        ("HTTP://Site.Test:{port}/a.png", "site.test:{port}"),
        (" \n http://site.test:{port}/a.png \t", "site.test:{port}"),
        ("http://site.test:{port}/redirect", "xn--mller-kva.test:{port}"),
    ],
)
def test_hosts_in_any_writing_are_fetched(url: str, host: str) -> None:
    seen: list[str] = []

    async def main() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            if head.startswith("GET /redirect"):
                answer = f"HTTP/1.1 302 Found\r\nlocation: http://müller.test:{port}/ü.png\r\n\r\n".encode()
            else:
                seen.append(next(line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")))
                answer = b"HTTP/1.1 200 OK\r\n\r\n" + RED
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        fetcher = UrlFetcher(UrlImages(), 10**6, resolve_host=resolve, allowed=lambda _: True)
        async with server:
            data = await fetcher.fetch(url.format(port=port), "image")
        await fetcher.aclose()
        assert seen == [host.format(port=port)]
        return data

    assert asyncio.run(main()) == RED


@pytest.mark.parametrize(
    "url",
    [
        "http://exa\u2028mple.test/", "http://\u0000.test/", "http://xn--\ud800.test/", "http://-ü-.test/", "http://ü..test/",
        "http://" + "ü" * 64 + ".test/", "http://[::1/", "http://site.test:port/", "http://a b.test/", "http://\u00ad/",
        "http://\u0661\u0662.test:99999/", "http://site.test/\ud800", "http:///a.png", "http://site.test\\@inside.test/",
    ],
)  # fmt: skip
def test_hosts_that_are_none_are_refused_never_a_500(url: str) -> None:
    async def main() -> bytes:
        fetcher = UrlFetcher(UrlImages(), 10**6, resolve_host=resolve, allowed=lambda _: True)
        return await fetcher.fetch(url, "image")

    with pytest.raises(ApiError) as refused:
        asyncio.run(main())
    assert refused.value.code in ("url_refused", "url_failed")
    assert refused.value.param == "image"


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1", "http://\udcff.test/", "//[", "http://site.test:x/", "\x00", "http://-ü-.test/", "http://ü..test/",
        "ht!tp://x", "http://user:pw@site.test/", "file:///etc/passwd", "http://[v1.x]/",
    ],
)  # fmt: skip
def test_redirects_to_what_is_no_url_are_refused_never_a_500(location: str) -> None:
    async def main() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 302 Found\r\nlocation: " + location.encode("utf-8", "surrogateescape") + b"\r\n\r\n"
            )
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        fetcher = UrlFetcher(UrlImages(seconds=5), 10**6, resolve_host=resolve, allowed=lambda _: True)
        async with server:
            return await fetcher.fetch(f"http://site.test:{port}/", "image")

    with pytest.raises(ApiError) as refused:
        asyncio.run(main())
    assert refused.value.code in ("url_refused", "url_failed")


def test_an_allowed_host_may_be_named_in_its_own_writing() -> None:
    async def main(hosts: frozenset[str], url: str) -> bytes:
        fetcher = UrlFetcher(UrlImages(hosts=hosts, seconds=5), 10**6, resolve_host=resolve, allowed=lambda _: True)
        return await fetcher.fetch(url, "image")

    for hosts in ({"müller.test"}, {"xn--mller-kva.test"}):
        with pytest.raises(ApiError) as refused:
            asyncio.run(main(frozenset(hosts), "http://müller.test:1/a.png"))
        assert refused.value.code == "url_failed"  # let through, and nobody listens there
        with pytest.raises(ApiError) as refused:
            asyncio.run(main(frozenset(hosts), "http://möller.test:1/a.png"))
        assert refused.value.code == "url_refused"


def test_a_silent_name_server_takes_no_thread_from_decoding(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's own threads are few; look-ups that hang would take them all."""
    answered = threading.Event()
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def silent(host: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith("silent.test"):
            asked.append(host)
            answered.wait(30)
            raise OSError
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    options = UrlImages(seconds=20)
    app = create_app(AsyncClient(transport=fake.async_transport()), Settings(url_images=options))
    large = {"input": "data:image/png;base64," + base64_of(RED + bytes(400_000))}
    with listening(app) as url:
        threads = [
            threading.Thread(
                target=httpx.post,
                args=(f"{url}{EMBED}",),
                kwargs={"json": {"input": [{"image": f"http://{n}.silent.test/"} for n in range(64)]}, "timeout": 60},
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: len(asked) == options.at_once_each, 15)
            assert httpx.post(f"{url}{EMBED}", json=large, timeout=15).status_code == 200
        finally:
            answered.set()
            for thread in threads:
                thread.join(60)


def test_images_that_are_no_urls_need_no_fetcher(fake: FakeServer) -> None:
    with gateway_over(fake) as gateway:
        assert len(gateway.post(EMBED, input=[RED_URL, {"image": BLUE_URL}])["data"]) == 2
        assert gateway.refused(EMBED, 400, input={"image": "http://a.test/"})["code"] == "url_images_disabled"
