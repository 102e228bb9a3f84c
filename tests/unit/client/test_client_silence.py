"""A server that is there no more, without a word: one deadline is lost on it, and no more; a slow one loses nothing."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Wire
from tests.unit.client.raw_servers import Relay, raw_server
from tests.waiting import wait_for
from tritonclip import AsyncClient, Client, ConnectError, DeadlineExceededError, _defaults
from tritonclip.protocol import _channels, grpc_transport
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.testing import features_of

TIMEOUT = 1.0  # of what is lost; the rest has all the time that it may need where the machine stands still


@pytest.fixture
def relay(wire: Wire) -> Iterator[Relay]:
    """Between the client and the server of ``wire``, whose URL is then the relay's."""
    scheme, _, port = wire.url.rpartition(":")
    passing = Relay(int(port))
    with raw_server(passing.handle) as near:
        wire.url = f"{scheme}:{near}"
        yield passing


def is_right(embeddings: Any, text: str) -> bool:
    return np.array_equal(embeddings.features[0], features_of(text.encode(), 16))


def test_a_silent_connection_costs_one_deadline(wire: Wire, relay: Relay) -> None:
    def talk(client: Any) -> None:
        assert is_right(client.embed_texts("before"), "before")
        relay.hush()
        with pytest.raises(DeadlineExceededError):
            client.with_timeout(TIMEOUT).embed_texts("lost")
        for text in ("after", "and after"):
            assert is_right(client.embed_texts(text), text)

    async def talk_async(client: Any) -> None:
        assert is_right(await client.embed_texts("before"), "before")
        relay.hush()
        with pytest.raises(DeadlineExceededError):
            await client.with_timeout(TIMEOUT).embed_texts("lost")
        for text in ("after", "and after"):
            assert is_right(await client.embed_texts(text), text)

    wire.run(talk_async if wire.is_async else talk)
    assert relay.connections == 2


@pytest.mark.parametrize("wire", ["grpc-async", "http-async"], indirect=True)
def test_whoever_gives_up_before_the_deadline_finds_out_too(wire: Wire, relay: Relay) -> None:
    """A service has deadlines of its own: what it cancels has waited in vain as well."""

    async def talk(client: Any) -> None:
        def under_way() -> bool:
            return any(channel.calls for channel in client._transport._transport._channels())

        await client.embed_texts("before")
        await asyncio.to_thread(wait_for, lambda: not under_way())
        relay.hush()
        lost = asyncio.create_task(client.embed_texts("lost"))
        await asyncio.to_thread(wait_for, under_way)
        await asyncio.sleep(TIMEOUT)  # which begins with the call, however late that was
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        assert is_right(await client.embed_texts("after"), "after")

    wire.run(talk)


def test_a_machine_that_is_gone_costs_no_call(wire: Wire, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP itself notices that nothing is acknowledged, and the call has its answer from another connection in time."""
    monkeypatch.setattr(_defaults, "UNACKNOWLEDGED_SECONDS", 1)
    options = {**dict(grpc_transport.CHANNEL_OPTIONS), "grpc.keepalive_timeout_ms": 1000}
    monkeypatch.setattr(grpc_transport, "CHANNEL_OPTIONS", [*options.items()])

    def talk(client: Any) -> None:
        client.embed_texts("before")
        relay.vanish()
        assert is_right(client.embed_texts("not lost"), "not lost")

    async def talk_async(client: Any) -> None:
        await client.embed_texts("before")
        relay.vanish()
        assert is_right(await client.embed_texts("not lost"), "not lost")

    started = time.monotonic()
    wire.run(talk_async if wire.is_async else talk, timeout=60)
    assert time.monotonic() - started < 30
    assert relay.connections == 2


def test_many_at_once_lose_one_deadline_together(wire: Wire, relay: Relay) -> None:
    async def talk(client: Any) -> list[Any]:
        await client.embed_texts("before")
        relay.hush()
        hasty = client.with_timeout(TIMEOUT)
        await asyncio.gather(*(hasty.embed_texts(f"lost {n}") for n in range(8)), return_exceptions=True)
        return list(await asyncio.gather(*(client.embed_texts(f"after {n}") for n in range(8))))

    async def main() -> list[Any]:
        async with AsyncClient(wire.url) as client:
            return await talk(client)

    started = time.monotonic()
    for number, found in enumerate(asyncio.run(main())):
        assert is_right(found, f"after {number}")
    assert time.monotonic() - started < 20 * TIMEOUT


@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_a_server_that_is_merely_slow_is_not_hurt(wire: Wire) -> None:
    """A deadline opens a new connection; what is under way on the old one still gets its answer."""
    release = threading.Event()
    arrived = threading.Semaphore(0)

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_text" and not release.is_set():
            arrived.release()
            release.wait(30)

    wire.fake.before = before
    found: list[Any] = []
    with Client(wire.url, timeout=30) as client:
        client.manifest()
        slow = threading.Thread(target=lambda: found.append(client.embed_texts("slow")))
        slow.start()
        assert arrived.acquire(timeout=20)
        for _ in range(2):
            # The second one connects anew, and has no time for that where the machine stands still.
            with pytest.raises((DeadlineExceededError, ConnectError)):
                client.with_timeout(0.5).embed_texts("hasty")
        release.set()
        slow.join(20)
        assert is_right(found[0], "slow")
        assert is_right(client.embed_texts("after"), "after")
    held = {peer for peer, call in wire.server.peers if call.model == "embed_text"}
    assert len(held) > 1


@pytest.mark.parametrize("wire", ["grpc", "http"], indirect=True)
def test_a_server_that_answers_others_is_kept(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow answer says nothing of a connection on which others come."""
    clock = [time.monotonic()]
    monkeypatch.setattr(_channels, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    arrived, release = threading.Event(), threading.Event()

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs and call.inputs[0].items() == [b"slow"]:
            arrived.set()
            release.wait(30)

    def ask_slowly() -> None:
        with pytest.raises(DeadlineExceededError):
            client.with_timeout(4).embed_texts("slow")

    wire.fake.before = before
    with Client(wire.url, timeout=30) as client:
        client.manifest()
        slow = threading.Thread(target=ask_slowly)
        slow.start()
        assert arrived.wait(20)
        clock[0] += 2 * _channels.SILENCE
        while slow.is_alive():
            client.embed_texts("quick")
            slow.join(0.2)  # a connection that nobody uses for long is closed
        client.embed_texts("quick")
        release.set()
    quick = {peer for peer, call in wire.server.peers if call.inputs and call.inputs[0].items() == [b"quick"]}
    assert len(quick) == 1  # before the deadline and after it


def test_a_server_that_takes_its_time_to_accept_is_waited_for(wire: Wire) -> None:
    """As one does that stands still for a moment: the kernel connects, and nobody speaks."""
    scheme, _, port = wire.url.rpartition(":")
    passing = Relay(int(port))

    def handle_late(connection: socket.socket) -> None:
        time.sleep(2.5)
        passing.handle(connection)

    with raw_server(handle_late) as near:
        wire.url = f"{scheme}:{near}"
        assert is_right(wire.run(lambda client: client.embed_texts("at last"), timeout=30), "at last")
    assert passing.connections == 1
