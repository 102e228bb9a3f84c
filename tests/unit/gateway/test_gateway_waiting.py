"""Requests that find no room: they wait, in their turn and within bounds, and are then served or refused."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_server import GatewayProcess, listening
from tests.images import RED_URL
from tests.raw_http import answer, connect, post, received, statuses
from tests.samples import sample
from tests.waiting import wait_for
from tritonclip import AsyncClient, Embeddings
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.admission import fair_semaphore
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.content.image_loader import ImageLoader
from tritonclip_server.gateway.inference.engine import OnError
from tritonclip_server.gateway.settings import Limits, Settings

EMBED = "/v1/embeddings"


class HeldClient(AsyncClient):
    """Images are embedded once `release` is set."""

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(transport=fake.async_transport())
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()
        self.sizes: list[int] = []  # of the calls, in images

    def with_timeout(self, timeout: float) -> "HeldClient":
        return self

    async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
        self.sizes.append(len(images))
        self.begun.release()
        while not self.release.is_set():  # noqa: ASYNC110 - it is set from another thread
            await asyncio.sleep(0.005)
        return await super().embed_images(images, on_error=on_error)


@pytest.fixture
def held(fake: FakeServer) -> Iterator[HeldClient]:
    client = HeldClient(fake)
    yield client
    client.release.set()


def limits(**others: Any) -> Limits:
    """FairSemaphore for one image at a time; what waits does so for longer than a machine stands still."""
    return Limits(**{"items_in_flight": 1, "waiting_seconds": 60.0} | others)


def ask(url: str, content: Any = RED_URL, **options: Any) -> httpx.Response:
    return httpx.post(url + EMBED, json={"input": content}, **{"timeout": 60} | options)


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def metric(url: str, name: str) -> float:
    found = sample(httpx.get(f"{url}/metrics", timeout=30).text, f"tritonclip_gateway_{name}")
    assert found is not None, f"there is no {name}"
    return found


def until(url: str, name: str, value: float) -> None:
    deadline = time.monotonic() + 30
    while (found := metric(url, name)) != value:
        assert time.monotonic() < deadline, f"{name} is {found}"


WAITING = 'requests_waiting{room="places"}'


def test_a_request_that_finds_no_place_waits_and_is_served(held: HeldClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images are not decoded before it has one; and what needs no place does not wait."""
    decoded: list[int] = []
    load = ImageLoader.load

    async def noted(loader: ImageLoader, items: Sequence[Any]) -> Any:
        decoded.append(len(items))
        return await load(loader, items)

    monkeypatch.setattr(ImageLoader, "load", noted)
    with listening(create_app(held, Settings(limits=limits(items_in_flight=2)))) as url:
        assert ask(url, "a cached text").status_code == 200
        threads = [in_background(lambda: ask(url, [RED_URL] * 2)) for _ in range(3)]
        until(url, WAITING, 2)
        assert decoded == [2]
        assert metric(url, "items_in_flight") == 2
        assert ask(url, "a cached text").status_code == 200
        for path in ("/health/live", "/v1/models"):
            assert httpx.get(url + path, timeout=30).status_code == 200
        held.release.set()
        for thread, answers in threads:
            thread.join(30)
            assert answers[0].status_code == 200
        assert decoded == [2, 2, 2]
        assert metric(url, WAITING) == metric(url, "items_in_flight") == 0
        assert metric(url, 'waited_seconds_count{room="places"}') == 4


def test_beyond_the_requests_that_may_wait_there_is_a_refusal_at_once(held: HeldClient) -> None:
    with listening(create_app(held, Settings(limits=limits(waiting=2)))) as url:
        threads = [in_background(lambda: ask(url)) for _ in range(3)]
        until(url, WAITING, 2)
        refusals = [ask(url) for _ in range(8)]
        assert {refusal.status_code for refusal in refusals} == {429}
        assert {refusal.json()["error"]["code"] for refusal in refusals} == {"overloaded"}
        assert metric(url, 'no_room_total{reason="too_many_wait",room="places"}') == 8
        milliseconds = [int(refusal.headers["retry-after-ms"]) for refusal in refusals]
        assert all(1000 <= each <= 4000 for each in milliseconds)
        assert len(set(milliseconds)) > 1  # whoever was refused together does not come back together
        assert all(
            int(refusal.headers["retry-after"]) == round(each / 1000)
            for refusal, each in zip(refusals, milliseconds, strict=True)
        )
        held.release.set()
        for thread, answers in threads:
            thread.join(30)
            assert answers[0].status_code == 200


@pytest.mark.parametrize(("waits", "header"), [(0.3, {}), (60.0, {"x-request-timeout": "5.3"})])
def test_nobody_waits_beyond_its_time(
    held: HeldClient, waits: float, header: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that stalls for the usual 20 ms would let the request's own time run out first.
    monkeypatch.setattr(fair_semaphore, "ANSWER_SECONDS", 5)
    with listening(create_app(held, Settings(limits=limits(waiting_seconds=waits)))) as url:
        thread, _ = in_background(lambda: ask(url))
        assert held.begun.acquire(timeout=30)
        started = time.monotonic()
        refusal = ask(url, headers=header)
        assert 0.25 < time.monotonic() - started < 30
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (429, "overloaded")
        assert metric(url, 'no_room_total{reason="waited_too_long",room="places"}') == 1
        held.release.set()
        thread.join(30)
        assert held.sizes == [1]


def test_who_hangs_up_while_it_waits_leaves_at_once(held: HeldClient) -> None:
    with listening(create_app(held, Settings(limits=limits()))) as url:
        thread, _ = in_background(lambda: ask(url))
        assert held.begun.acquire(timeout=30)
        with connect(url) as connection:
            connection.sendall(post(EMBED, json.dumps({"input": RED_URL}).encode()))
            until(url, WAITING, 1)
        until(url, WAITING, 0)
        gone = 'tritonclip_gateway_requests_total{endpoint="/v1/embeddings",status="499"}'
        wait_for(lambda: sample(httpx.get(f"{url}/metrics", timeout=30).text, gone) == 1)
        held.release.set()
        thread.join(30)
        assert held.sizes == [1]


def test_one_keys_flood_does_not_push_back_anothers_request(held: HeldClient, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    alice, bob = ({"authorization": f"Bearer {file.create(name)[1]}"} for name in ("alice", "bob"))
    with listening(create_app(held, Settings(limits=limits(waiting=8), keys=file.path))) as url:
        refused = 'no_room_total{reason="too_many_wait",room="places"}'
        flood = [in_background(lambda: ask(url, [RED_URL] * 2, headers=alice)) for _ in range(12)]
        until(url, refused, 3)
        assert metric(url, WAITING) == 8
        thread, answers = in_background(lambda: ask(url, headers=bob))
        until(url, refused, 4)  # alice's last makes room for bob
        assert metric(url, WAITING) == 8
        held.release.set()
        thread.join(30)
        assert answers[0].status_code == 200
        for thread, _ in flood:
            thread.join(30)
    assert sorted(answers[0].status_code for _, answers in flood) == [200] * 8 + [429] * 4
    assert held.sizes == [2, 2, 1] + [2] * 6  # alice's that was inside, her first that waited, and then bob's


def test_images_a_minute_are_given_back_to_whom_is_turned_away(held: HeldClient, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    headers = {"authorization": f"Bearer {file.create('alice', images_per_minute=3)[1]}"}
    settings = Settings(limits=limits(waiting_seconds=0.2), keys=file.path)
    with listening(create_app(held, settings)) as url:
        thread, answers = in_background(lambda: ask(url, headers=headers))
        assert held.begun.acquire(timeout=30)
        assert ask(url, [RED_URL] * 2, headers=headers).json()["error"]["code"] == "overloaded"
        assert metric(url, 'items_total{kind="image"}') == 0
        held.release.set()
        thread.join(30)
        assert answers[0].headers["x-ratelimit-remaining-images"] == "2"
        assert ask(url, [RED_URL] * 2, headers=headers).status_code == 200
        assert metric(url, 'items_total{kind="image"}') == 3
        assert ask(url, [RED_URL] * 2, headers=headers).json()["error"]["code"] == "rate_limit_exceeded"


def test_who_hangs_up_before_there_is_room_for_its_body_leaves_at_once() -> None:
    bounds = Limits(body_bytes=1000, bytes_in_flight=1000, bytes_in_flight_per_key=1000, waiting_seconds=60)
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(limits=bounds))
    with listening(app, bounds) as url:
        first, second, third = (connect(url) for _ in range(3))
        first.sendall(post(EMBED, b"{", announced=1000))
        until(url, "bytes_in_flight", 1000)
        second.sendall(post(EMBED, b'{"input": "b"}'.ljust(900)))
        until(url, 'requests_waiting{room="bytes"}', 1)
        third.sendall(post(EMBED, b'{"input": "c"}'.ljust(900)))
        until(url, 'requests_waiting{room="bytes"}', 2)
        assert httpx.get(f"{url}/v1/models", timeout=30).status_code == 200  # it has no body
        second.close()
        until(url, 'requests_waiting{room="bytes"}', 1)
        first.sendall(b'"input": "a"}'.ljust(999))
        assert statuses(answer(first)) == statuses(answer(third)) == [200]
        until(url, "bytes_in_flight", 0)
        first.close()
        third.close()


def test_a_stop_serves_those_that_wait(tmp_path: Path) -> None:
    """They had begun: whoever comes after the signal is refused, and nobody is cut off."""
    ended = tmp_path / "ended"
    process = GatewayProcess("--max-items-in-flight", "1", "--max-waiting-seconds", "60", fake=ended)
    body = b'{"input": {"image": "data:image/png;base64,iVBORw0KGgo="}}'
    connections = [connect(process.url) for _ in range(4)]
    for connection in connections:
        connection.sendall(post(EMBED, body))
    until(process.url, WAITING, 3)
    process.process.terminate()
    wait_for(lambda: httpx.get(f"{process.url}/v1/models", timeout=30).status_code == 503)
    ended.touch()
    assert [statuses(received(connection)) for connection in connections] == [[200]] * 4
    process.process.wait(60)
    process.stop()
    assert process.process.returncode == 0
