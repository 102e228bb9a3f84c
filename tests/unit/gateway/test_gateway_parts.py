"""Large requests: worked off in parts, between which small ones pass."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.images import RED_URL
from tests.unit.gateway.conftest import gateway_over
from tests.virtual_time import run
from tritonclip import AsyncClient, Embeddings
from tritonclip.protocol import status_error
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.admission.fair_semaphore import QueueLimits
from tritonclip_server.gateway.admission.places import PLACE, Admission, Kind
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.engine import Inference
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.settings import Limits, Settings

EMBED = "/v1/embeddings"


def test_2048_texts_are_one_request(fake: FakeServer) -> None:
    """In parts, each no larger than the room; every text with its own vector, in its place."""
    texts = [f"text {index % 1500}" for index in range(2048)]
    with gateway_over(fake, Settings(limits=Limits(items_in_flight=8))) as gateway:
        rows = [row["embedding"] for row in gateway.post(EMBED, input=texts)["data"]]
        assert gateway.metric("tritonclip_gateway_items_in_flight") == 0
    asked = [item.decode() for call in fake.requests("embed_text") for item in call.inputs[0].items()]
    assert sorted(asked) == sorted(set(texts))
    with gateway_over(FakeServer()) as gateway:
        for index in (0, 63, 64, 1499, 1500, 2047):
            assert gateway.post(EMBED, input=texts[index])["data"][0]["embedding"] == rows[index]


class FailingClient(AsyncClient):
    """The third call for features fails."""

    calls = 0

    def with_timeout(self, timeout: float) -> "FailingClient":
        return self

    def with_headers(self, headers: Mapping[str, str]) -> "FailingClient":
        return self

    async def embed_images(self, images: Any, **options: Any) -> Embeddings:
        self._count()
        return await super().embed_images(images, **options)

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        self._count()
        return await super().embed_texts(texts, **options)

    def _count(self) -> None:
        self.calls += 1
        if self.calls == 3:
            raise status_error("INTERNAL", "broken", "embed")


@pytest.mark.parametrize("content", [[f"text {index}" for index in range(640)], [RED_URL] * 64])
def test_a_part_that_fails_fails_the_request_and_leaves_nothing(fake: FakeServer, content: list[str]) -> None:
    with gateway_over(fake, engine=FailingClient(transport=fake.async_transport())) as gateway:
        answer = gateway.http.post(EMBED, json={"input": content})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
        assert gateway.metric("tritonclip_gateway_items_in_flight") == 0
        assert gateway.metric('tritonclip_gateway_requests_waiting{room="places"}') == 0
        again = gateway.http.post(EMBED, json={"input": content})
        assert again.status_code == 200
        assert len(again.json()["data"]) == len(content)


def test_the_repetition_of_a_request_that_ran_out_of_time_goes_on_where_it_ended(fake: FakeServer) -> None:
    class SlowClient(AsyncClient):
        answered = 2  # so many parts, and then it hangs

        def with_timeout(self, timeout: float) -> "SlowClient":
            return self

        def with_headers(self, headers: Mapping[str, str]) -> "SlowClient":
            return self

        async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
            found = await super().embed_texts(texts, **options)
            self.answered -= 1
            await asyncio.sleep(0 if self.answered >= 0 else 60)
            return found

    slow = SlowClient(transport=fake.async_transport())
    texts = [f"text {index}" for index in range(1024)]
    with gateway_over(fake, engine=slow) as gateway:
        done, seconds = 0.0, 1.0
        while not done:  # the time of one that waits for a machine ends before its first part
            slow.answered, seconds = 2, 2 * seconds
            answer = gateway.http.post(EMBED, json={"input": texts}, headers={"x-request-timeout": str(seconds)})
            assert answer.json()["error"]["code"] == "timeout"
            done = gateway.metric("tritonclip_gateway_cached_texts")
        assert done < 1024
        asked = sum(len(call.inputs[0].items()) for call in fake.requests("embed_text"))
        slow.answered = 1024
        assert len(gateway.post(EMBED, input=texts)["data"]) == 1024
        again = sum(len(call.inputs[0].items()) for call in fake.requests("embed_text")) - asked
        assert again == 1024 - done


def test_bad_items_keep_their_positions_across_parts(fake: FakeServer) -> None:
    bad = {3, 17, 40}
    images = [RED_URL if index not in bad else "data:image/png;base64,AAAA" for index in range(48)]
    with gateway_over(fake) as gateway:
        found = gateway.post(EMBED, input=images, partial=True)
        assert {error["index"] for error in found["errors"]} == bad
        found = gateway.post("/v1/classify", images=images, label_set="colours", partial=True)
        assert {error["index"] for error in found["errors"]} == bad
        assert [row["index"] for row in found["data"]] == [index for index in range(48) if index not in bad]


class Clocked:
    """Requests on a clock that only jumps: the engine takes a second for each part."""

    def __init__(self, places: int) -> None:
        self._metrics = Metrics()
        self._admission = Admission(places, QueueLimits(1000, 1e6), self._metrics)
        self._engine = AsyncClient(transport=FakeServer().async_transport())
        self.now = 0  # parts in the engine
        self.most = 0
        self.done = 0

    async def embed(self, items: int, kind: Kind = Kind.TEXT, *, caller: str = "a") -> float:
        """The seconds that a request took."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        turn = self._admission.turn(RequestContext("id", started + 1e6, peer=caller), self._engine)

        async def work(_engine: Inference, part: Sequence[int]) -> Sequence[int]:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(1)
                self.done += 1
            finally:
                self.now -= 1
            return part

        parts = await turn.in_parts(kind, range(items), work)
        assert [item for part in parts for item in part] == list(range(items))
        return loop.time() - started

    @property
    def places(self) -> float:
        """Those that are taken."""
        return self._metrics.registry.get_sample_value("tritonclip_gateway_items_in_flight", {"model": ""}) or 0.0


def test_small_requests_pass_between_the_parts_of_large_ones() -> None:
    """Of the same caller, who has no turn of its own: behind one part of each large request, not behind all of them."""
    parts = 2048 // Kind.TEXT.part

    async def main() -> None:
        clocked = Clocked(places=Kind.TEXT.part // PLACE)  # for one part at a time
        large = [asyncio.create_task(clocked.embed(2048)) for _ in range(5)]
        await asyncio.sleep(10.5)
        small = [await clocked.embed(1) for _ in range(3)]
        assert max(small) <= 5 + 1 + 1  # a part of each, what is inside, and its own
        other = await clocked.embed(1, caller="b")
        assert other <= 1 + 1 + 1  # what is inside, at most one turn of the other caller, and its own
        assert [await task for task in large][-1] <= 5 * parts + 4
        assert (clocked.places, clocked.most) == (0, 1)

    run(main())


@pytest.mark.parametrize(("kind", "items"), [(Kind.TEXT, 2048), (Kind.IMAGE, 64)])
def test_a_large_request_alone_keeps_the_engine_busy_and_no_busier(kind: Kind, items: int) -> None:
    async def main() -> None:
        clocked = Clocked(places=256)
        assert await clocked.embed(items, kind) == items / kind.part / kind.at_once
        assert clocked.most == kind.at_once

    run(main())


def test_a_part_of_more_than_there_is_goes_alone() -> None:
    async def main() -> None:
        clocked = Clocked(places=1)
        assert await clocked.embed(32, Kind.IMAGE) == 2
        assert clocked.most == 1

    run(main())


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_what_ends_early_runs_no_further(how: str) -> None:
    """Parts inside and parts that wait alike; and the places are there for others."""

    async def main() -> None:
        clocked = Clocked(places=32)
        task = asyncio.create_task(clocked.embed(2048))
        if how == "cancelled":
            await asyncio.sleep(2.5)
            task.cancel()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    await task
        await asyncio.gather(task, return_exceptions=True)
        done = clocked.done
        assert (clocked.now, clocked.places) == (0, 0)
        await asyncio.sleep(10)
        assert clocked.done == done == 4
        assert await clocked.embed(1) == 1

    run(main())
