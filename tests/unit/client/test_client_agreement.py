"""Servers of one URL that serve different models: their vectors are not mixed without a word."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.client.test_client_several_servers import SERVES, Held, balanced
from tritonclip import AsyncClient, Client, ProtocolError
from tritonclip.protocol import Call, InferRequest, status_error
from tritonclip.protocol import _balancing as balancing
from tritonclip.testing import FakeServer

MANIFEST = InferRequest("vit.manifest", (), ("manifest",))


@pytest.fixture(params=["grpc", "http"])
def servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[FakeServer]]]:
    """The URL of three servers, and what they are."""
    monkeypatch.setattr(balancing, "PROBE_SECONDS", 60.0)  # none is passed over because the machine stood still
    fakes = [FakeServer(model="vit") for _ in range(3)]
    with ExitStack() as stack:
        urls = [stack.enter_context(SERVES[request.param](fake))[0] for fake in fakes]
        yield f"{request.param}://{','.join(url.partition('://')[2] for url in urls)}?model=vit", fakes


def embedded(url: str, is_async: bool, **options: Any) -> int:
    texts = [f"text {number}" for number in range(6)]
    if not is_async:
        with Client(url, batch_size=1, **options) as client:
            return len(client.embed_texts(texts).features)

    async def main() -> int:
        async with AsyncClient(url, batch_size=1, **options) as client:
            return len((await client.embed_texts(texts)).features)

    return asyncio.run(main())


def asked(fake: FakeServer) -> int:
    """How often it was asked for its whole manifest."""
    return sum("manifest" in call.outputs for call in fake.requests("manifest"))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stranger", range(3))
def test_one_with_another_model_is_named_before_anything_is_embedded(
    servers: tuple[str, list[FakeServer]], stranger: int, is_async: bool
) -> None:
    url, fakes = servers
    fakes[stranger].manifest["fingerprint"] = "0123456789abcdef"
    with pytest.raises(ProtocolError, match=r"serve different models: .*//127.0.0.1:.* fingerprint") as caught:
        embedded(url, is_async)
    assert all(str(fake.manifest["fingerprint"]) in str(caught.value) for fake in fakes)
    assert not any(fake.requests("embed_text") for fake in fakes)
    del fakes[stranger].manifest["fingerprint"]  # of an older version, which has none
    assert embedded(url, is_async) == 6


def test_one_that_does_not_say_what_it_serves_is_passed_over(
    servers: tuple[str, list[FakeServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "PROBE_SECONDS", 0.5)
    url, fakes = servers
    release = threading.Event()

    def hang(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == MANIFEST.model:
            release.wait(30)

    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == MANIFEST.model:
            raise status_error("INTERNAL", "broke", "manifest")

    fakes[1].before, fakes[2].before = hang, fail
    try:
        assert embedded(url, is_async=False, timeout=60) == 6
    finally:
        release.set()


def test_whether_it_has_changed_is_asked_of_one(servers: tuple[str, list[FakeServer]]) -> None:
    url, fakes = servers
    for fake in fakes:
        fake.store_label_set("birds", ["crow", "wren"])
        fake.manifest["revision"] = "1"
    with Client(url) as client:
        for _ in range(4):
            client.classify(b"an image", label_set="birds")
        assert [asked(fake) for fake in fakes] == [1, 1, 1]
        client.manifest(refresh=True)
        assert [asked(fake) for fake in fakes] == [2, 2, 2]


def test_one_that_is_away_is_not_asked_and_giving_up_ends_all() -> None:
    held = [Held(), Held(), Held()]
    transport = balanced(held)
    transport._servers[2].is_away = True
    future = transport.start(MANIFEST, 60.0)
    assert [len(server.calls) for server in held] == [1, 1, 0]
    future.cancel()
    assert all(server.calls[0].cancelled() for server in held[:2])
