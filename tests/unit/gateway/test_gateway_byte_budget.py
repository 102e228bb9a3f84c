"""Bytes in flight: of all callers and of each, counted before they are read, and given back whatever happens."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from tests.gateway_server import listening
from tests.raw_http import answer, connect, post, received, statuses
from tests.unit.gateway.conftest import gateway_over
from tests.virtual_time import run
from tests.waiting import wait_for
from tritonclip import AsyncClient, Embeddings, InvalidArgumentError
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.admission.byte_budget import ByteBudget
from tritonclip_server.gateway.admission.fair_semaphore import QueueLimits
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.request_context import context_of
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.settings import Limits, Settings

LIMITS = Limits(body_bytes=1000, bytes_in_flight=2500, bytes_in_flight_per_key=1500, waiting_seconds=0.5)


def budget(**limits: int) -> ByteBudget:
    return ByteBudget(
        **{"limit": 100, "share": 60, "body": 40} | limits, bounds=QueueLimits(10, 1.0), metrics=Metrics()
    )


def refused(call: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as error:
        call()
    assert error.value.status == 429
    return error.value


def test_a_caller_has_its_share_and_all_together_the_whole() -> None:
    held = budget()
    with held.hold("a") as first, held.hold("b") as second, held.hold("c") as third:
        assert first.try_acquire(40)
        assert second.try_acquire(40)
        assert refused(lambda: first.grow(21)).code == "rate_limit_exceeded"
        first.grow(20)
        assert refused(lambda: second.grow(1)).code == "overloaded"
        assert (first.size, second.size) == (60, 40)
        assert not third.try_acquire(1)
        assert third.try_acquire(0)
        assert third.size == 0
    with held.hold("c") as third, held.hold("b") as second:
        assert third.try_acquire(60)
        assert second.try_acquire(40)


def test_a_limit_that_is_less_than_a_body_is_no_lock() -> None:
    with budget(limit=1, share=1, body=40).hold("a") as hold:
        assert hold.try_acquire(40)


def test_bytes_are_waited_for_and_given_back() -> None:
    async def main() -> None:
        held = budget()

        async def ask(caller: str, count: int, seconds: float) -> float:
            with held.hold(caller) as hold:
                await hold.acquire(count, deadline=1e9)
                entered = asyncio.get_running_loop().time()
                assert hold.size == count
                await asyncio.sleep(seconds)
                return entered

        asked = (ask("a", 40, 0.5), ask("a", 40, 0.1), ask("b", 40, 0.1), ask("c", 40, 0.1), ask("d", 0, 0.1))
        assert await asyncio.gather(*asked) == pytest.approx([0, 0.5, 0, 0.1, 0])
        with held.hold("e") as hold:
            assert hold.try_acquire(60)

    run(main())


def test_the_message_says_whether_waiting_helps() -> None:
    async def main() -> None:
        held = budget()
        with held.hold("a") as hold:
            assert "split it" in refused(lambda: hold.grow(61)).message
            hold.grow(40)
            with pytest.raises(ApiError, match="wait for their answers") as error, held.hold("a") as other:
                await other.acquire(30, deadline=1e9)
            assert error.value.code == "rate_limit_exceeded"

    run(main())


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A gateway with small limits, and the keys of two callers."""
    file = KeyFile(tmp_path / "keys.json")
    secrets = [file.create(name)[1] for name in ("alice", "bob", "carol")]
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(limits=LIMITS, keys=file.path))
    with listening(app, LIMITS) as url:
        yield url, secrets


def in_flight(url: str) -> float:
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if line.startswith("tritonclip_gateway_bytes_in_flight "):
            return float(line.split()[1])
    raise AssertionError("there is no such metric")


def until_in_flight(url: str, count: float) -> None:
    wait_for(lambda: in_flight(url) == count)


def test_what_is_announced_is_held_before_it_is_read(gateway: tuple[str, list[str]]) -> None:
    url, (alice, bob, carol) = gateway
    embeddings = "/v1/embeddings"
    begun = []
    for secret in (alice, bob):
        begun.append(connect(url))
        begun[-1].sendall(post(embeddings, b"{", f"Authorization: Bearer {secret}", announced=1000))
    until_in_flight(url, 2000)

    def ask(secret: str, size: int) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        return httpx.post(url + embeddings, content=b'{"input": "a"}'.ljust(size), headers=headers, timeout=30)

    own, all_together = ask(alice, 600), ask(carol, 600)  # which wait, and nothing becomes free
    assert (own.status_code, own.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (all_together.status_code, all_together.json()["error"]["code"]) == (429, "overloaded")
    assert 1 <= int(own.headers["retry-after"]) <= 4
    assert own.headers["connection"] == "close"
    assert ask(carol, 400).status_code == ask(alice, 400).status_code == 200

    begun[0].sendall(b'"input": "a"}'.ljust(999))
    assert statuses(answer(begun[0])) == [200]
    begun[1].close()  # hung up
    until_in_flight(url, 0)
    assert ask(alice, 600).status_code == ask(carol, 600).status_code == 200
    begun[0].close()


def test_what_is_not_announced_is_held_as_it_comes(gateway: tuple[str, list[str]]) -> None:
    url, (alice, _, carol) = gateway
    connections = []
    for _ in range(2):
        connections.append(connect(url))
        head = post("/v1/embeddings", b"", f"Authorization: Bearer {alice}")
        connections[-1].sendall(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        connections[-1].sendall(b"2bc\r\n" + b" " * 700 + b"\r\n")
    until_in_flight(url, 1400)
    connections[1].sendall(b"96\r\n" + b" " * 150 + b"\r\n")
    assert b"rate_limit_exceeded" in received(connections[1])
    until_in_flight(url, 700)
    connections[0].close()
    until_in_flight(url, 0)
    headers = {"authorization": f"Bearer {carol}"}
    assert httpx.get(f"{url}/v1/models", headers=headers, timeout=30).status_code == 200


def test_routes_may_hold_more_and_all_is_given_back() -> None:
    """As for what they decode and fetch."""
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(limits=LIMITS))
    sizes = []

    @app.post("/v1/more")
    async def more(request: Any) -> Any:
        raise NotImplementedError

    async def grow(scope: Any, receive: Any, send: Any) -> None:
        hold = context_of(scope).hold
        assert hold is not None
        sizes.append(hold.size)
        hold.grow(LIMITS.bytes_in_flight_per_key)

    app.router.routes[-1].app = grow  # type: ignore[attr-defined]
    with listening(app, LIMITS) as url:
        for _ in range(3):
            answer = httpx.post(f"{url}/v1/more", content=b"a" * 500, timeout=30)
            assert answer.status_code == 429
            assert "split it" in answer.json()["error"]["message"]
        assert sizes == [500] * 3
        assert in_flight(url) == 0


class Body:
    """Stands for what a request is made into."""


@pytest.mark.parametrize("error", [InvalidArgumentError("no", status_code="INVALID_ARGUMENT"), ValueError("no")])
def test_a_request_that_failed_is_forgotten_at_once(error: Exception) -> None:
    """Not only when the garbage collector comes round: its error went through frames that hold all of it."""
    kept: list[weakref.ref[Body]] = []

    class Failing(AsyncClient):
        async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
            body = Body()
            kept.append(weakref.ref(body))
            raise error

    gc.collect()
    gc.disable()
    try:
        with gateway_over(FakeServer(), engine=Failing(transport=FakeServer().async_transport())) as gateway:
            assert gateway.http.post("/v1/embeddings", json={"input": "a"}).status_code >= 400
            assert [each() for each in kept] == [None]
    finally:
        gc.enable()


def body_of(messages: list[Message], headers: list[tuple[bytes, bytes]]) -> list[Message]:
    """What comes of an ASGI request that no server has checked."""
    sent: list[Message] = []
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()  # the caller stays
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }  # fmt: skip
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(limits=LIMITS))
    asyncio.run(app(scope, receive, send))
    return sent


@pytest.mark.parametrize("length", ["5", "", "-1", "1e3", "²", "9" * 5000, "0" * 5000 + "5", "1001", "99999999999"])
def test_lengths_that_lie(length: str) -> None:
    """Of a body of 600 bytes, where the server in front has let them through."""
    parts: list[Message] = [
        {"type": "http.request", "body": b" " * 300, "more_body": True},
        {"type": "http.request", "body": b'{"input": "a"}'.rjust(300), "more_body": False},
    ]
    sent = body_of(parts, [(b"content-length", length.encode("latin-1"))])
    too_large = length in ("9" * 5000, "1001", "99999999999")
    assert sent[0]["status"] == (413 if too_large else 200)


def test_a_body_that_grows_beyond_its_limit() -> None:
    parts: list[Message] = [{"type": "http.request", "body": b"a" * 600, "more_body": True}] * 9
    assert body_of(parts, [])[0]["status"] == 413
