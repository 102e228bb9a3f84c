"""After close, and closed meanwhile: one error of ours, over every transport, and soon."""

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.unit.client.conftest import Wire
from tritonclip import AsyncClient, Client, ClosedError, TritonClipError
from tritonclip.protocol.http_transport import _shut_down
from tritonclip.testing import FakeServer

USES: list[Callable[[Any], Any]] = [
    lambda client: client.embed_texts("a"),
    lambda client: client.embed_images([b"a"] * 100, on_error="return"),
    lambda client: client.compare(b"a", ["b", "c"]),
    lambda client: client.classify(b"a", ["b", "c"]),
    lambda client: client.count_tokens("a"),
    lambda client: client.status(),
    lambda client: client.manifest(refresh=True),
]


@pytest.mark.parametrize("used_before", [True, False])
def test_a_closed_client_says_so(wire: Wire, used_before: bool) -> None:
    if not wire.is_async:
        client = Client(wire.url)
        if used_before:
            client.embed_texts("a")
        for _ in range(2):
            client.close()
        for use in USES:
            with pytest.raises(ClosedError, match="closed"):
                use(client)
        client.close()
        return

    async def main() -> None:
        asynchronous = AsyncClient(wire.url)
        if used_before:
            await asynchronous.embed_texts("a")
        for _ in range(2):
            await asynchronous.aclose()
        for use in USES:
            with pytest.raises(ClosedError, match="closed"):
                await use(asynchronous)
        await asynchronous.aclose()

    asyncio.run(main())


def test_what_is_under_way_ends_when_the_client_is_closed(wire: Wire) -> None:
    release = threading.Event()
    arrived = threading.Semaphore(0)

    def before(call: Any) -> None:
        if call.model == "embed_text":
            arrived.release()
            release.wait(60)

    wire.fake.before = before
    errors: list[Exception] = []
    client: Any = AsyncClient(wire.url, timeout=60) if wire.is_async else Client(wire.url, timeout=60)

    def work() -> None:
        try:
            call = client.embed_texts(["held"] * 3)
            asyncio.run(call) if wire.is_async else call
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            assert arrived.acquire(timeout=20)
        started = time.monotonic()
        asyncio.run(client.aclose()) if wire.is_async else client.close()
        for thread in threads:
            thread.join(20)
        assert time.monotonic() - started < 20
    finally:
        release.set()
    assert [type(error) for error in errors] == [ClosedError] * 4


def work_until_it_fails(client: Client, errors: list[Exception]) -> None:
    try:
        while True:
            client.embed_texts(["a", "b", "c"])
    except Exception as error:
        errors.append(error)


@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_closing_amid_many_calls_never_shows_anothers_error(wire: Wire) -> None:
    """Whatever a call was doing at that moment: it has its answer, or a ClosedError."""
    for _ in range(5):
        client = Client(wire.url, concurrency=4, batch_size=1)
        errors: list[Exception] = []

        threads = [threading.Thread(target=work_until_it_fails, args=(client, errors)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        client.close()
        for thread in threads:
            thread.join(20)
        assert [type(error) for error in errors] == [ClosedError] * 4


def test_the_fakes_are_closed_as_well() -> None:
    fake = FakeServer()
    with Client(transport=fake.transport()) as client:
        client.embed_texts("a")
    with pytest.raises(ClosedError):
        client.embed_texts("a")
    asynchronous = AsyncClient(transport=fake.async_transport())
    asyncio.run(asynchronous.aclose())
    with pytest.raises(TritonClipError):
        asyncio.run(asynchronous.embed_texts("a"))


def test_a_connection_that_has_just_begun_ends_without_a_word() -> None:
    """Python warns of what was never awaited, on stderr, when it is cleared away."""

    async def connect() -> None:
        async with anyio.create_task_group() as group:  # as anyio.connect_tcp does
            group.start_soon(anyio.sleep_forever)

    loop = asyncio.new_event_loop()
    # The second one has its turn before the task that the first makes in its own.
    _tasks = [loop.create_task(each) for each in (connect(), _shut_down(httpx.AsyncClient()))]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loop.run_forever()
        loop.close()
        gc.collect()
    assert [str(warning.message) for warning in warned if "never awaited" in str(warning.message)] == []
