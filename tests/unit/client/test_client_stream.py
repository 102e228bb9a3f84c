"""Long iterables: read lazily, kept in order, with so many requests in flight and no more; failing items isolated."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Embed
from tritonclip import (
    AsyncClient,
    Client,
    ConfigError,
    Embeddings,
    InputError,
    ProtocolError,
    _defaults,
)
from tritonclip._core.chunks import group_by_size
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.testing import FakeServer, features_of


def expected(images: list[bytes]) -> Any:
    return np.stack([features_of(image, 16) for image in images])


def test_order_is_the_callers(embed: Embed, fake: FakeServer) -> None:
    images = [f"image {number}".encode() for number in range(101)]
    result = embed(fake, iter(images), batch_size=3, concurrency=5)
    np.testing.assert_array_equal(result.features, expected(images))
    assert result.errors == {}
    assert len(result) == 101


def test_a_single_chunk_is_sent_from_the_callers_thread_and_several_are_not() -> None:
    """A service embeds what comes in one by one: a thread for each would cost more than the call."""
    senders: set[int] = set()

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            senders.add(threading.get_ident())

    with Client(transport=FakeServer(before=before).transport(), batch_size=2) as client:
        client.embed_images([b"0", b"1"])
        assert senders == {threading.get_ident()}
        senders.clear()
        client.embed_images([b"0", b"1", b"2"])
        assert threading.get_ident() not in senders


def test_order_survives_answers_out_of_order() -> None:
    first_may_answer = threading.Event()
    answered: list[bytes] = []

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            (image,) = call.inputs[0].items()
            if image == b"0":
                assert first_may_answer.wait(20)
            answered.append(image)
            if image == b"5":
                first_may_answer.set()

    fake = FakeServer(before=before)
    images = [str(number).encode() for number in range(8)]
    with Client(transport=fake.transport(), batch_size=1, concurrency=2) as client:
        features = client.embed_images(images).features
    assert answered.index(b"0") > answered.index(b"5")
    np.testing.assert_array_equal(features, expected(images))


def test_a_long_iterable_is_read_only_as_requests_start() -> None:
    """Seen from inside the first request: no more is read than what is in flight."""
    read = 0
    most_ahead = 0
    in_flight = 0
    most_in_flight = 0
    lock = threading.Lock()
    started = threading.Semaphore(0)
    go = threading.Event()

    def images() -> Iterator[bytes]:
        nonlocal read
        for number in range(400):
            read += 1
            yield str(number).encode()

    def before(call: Call) -> None:
        nonlocal in_flight, most_in_flight, most_ahead
        if not (isinstance(call, InferRequest) and call.model == "embed_image"):
            return
        with lock:
            in_flight += 1
            most_in_flight = max(most_in_flight, in_flight)
        started.release()
        assert go.wait(20)
        with lock:
            in_flight -= 1

    fake = FakeServer(before=before)
    result: list[Embeddings] = []
    with Client(transport=fake.transport(), batch_size=5, concurrency=4) as client:
        thread = threading.Thread(target=lambda: result.append(client.embed_images(images())))
        thread.start()
        for _ in range(4):
            assert started.acquire(timeout=20)
        assert read == 20  # four requests of five, though nothing stops the reader but itself
        go.set()
        thread.join()
    assert most_in_flight == 4
    assert len(result[0]) == 400


def test_a_long_iterable_is_read_only_as_tasks_start() -> None:
    read = 0

    async def images() -> AsyncIterator[bytes]:
        nonlocal read
        for number in range(200):
            read += 1
            yield str(number).encode()

    class Gate:
        """A transport that holds requests until they are let through."""

        def __init__(self) -> None:
            self.fake = FakeServer()
            self.go = asyncio.Event()
            self.started = 0
            self.in_flight = 0
            self.most = 0

        async def send(self, call: Call, timeout: float) -> Any:  # noqa: ASYNC109
            if isinstance(call, InferRequest) and call.model == "embed_image":
                self.started += 1
                self.in_flight += 1
                self.most = max(self.most, self.in_flight)
                await self.go.wait()
                await asyncio.sleep(0)
                self.in_flight -= 1
            return self.fake.answer(call)

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        gate = Gate()
        async with AsyncClient(transport=gate, batch_size=5, concurrency=4) as client:
            task = asyncio.create_task(client.embed_images(images()))
            for _ in range(200):  # far more turns of the loop than anything here needs
                await asyncio.sleep(0)
            assert (read, gate.started) == (20, 4)
            gate.go.set()
            result = await task
        assert gate.most == 4
        np.testing.assert_array_equal(result.features, expected([str(number).encode() for number in range(200)]))

    asyncio.run(main())


def test_batches_keep_to_the_servers_limit(embed: Embed) -> None:
    fake = FakeServer(max_batch_size=4)
    embed(fake, [b"a"] * 10, batch_size=64)
    assert sorted(request.inputs[0].shape[0] for request in fake.requests("embed_image")) == [2, 4, 4]


@pytest.mark.parametrize(
    ("count", "images", "texts"),
    [(16, [16], [16]), (17, [1, 16], [17]), (64, [16] * 4, [64]), (65, [1, *[16] * 4], [1, 64])],
)
def test_texts_go_as_many_at_a_time_as_the_server_takes_and_images_fewer(
    count: int, images: list[int], texts: list[int]
) -> None:
    fake = FakeServer()
    with Client(transport=fake.transport()) as client:
        client.embed_images([b"a"] * count)
        client.embed_texts([f"text {number}" for number in range(count)])
    sizes = {
        model: sorted(request.inputs[0].shape[0] for request in fake.requests(model))
        for model in ("embed_image", "embed_text")
    }
    assert sizes == {"embed_image": images, "embed_text": texts}


def test_a_batch_size_of_the_callers_is_for_both(fake: FakeServer) -> None:
    with Client(transport=fake.transport(), batch_size=5) as client:
        client.embed_texts([f"text {number}" for number in range(12)])
        client.embed_images([b"a"] * 12)
    for model in ("embed_image", "embed_text"):
        assert sorted(request.inputs[0].shape[0] for request in fake.requests(model)) == [2, 5, 5]


def test_large_images_go_in_smaller_requests(embed: Embed, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert group_by_size([(0, b"123"), (1, b"45"), (2, b"6789012"), (3, b"")], limit=5) == [
        [(0, b"123"), (1, b"45")],
        [(2, b"6789012")],
        [(3, b"")],
    ]
    assert group_by_size([]) == []
    images = [bytes([number]) * (_defaults.MAX_REQUEST_BYTES // 2) for number in range(3)]
    result = embed(fake, images)
    assert [request.inputs[0].shape[0] for request in fake.requests("embed_image")] == [2, 1]
    np.testing.assert_array_equal(result.features, expected(images))


@pytest.mark.parametrize("nothing", [[], (), iter([]), np.zeros((0, 2, 2, 3), np.uint8)])
def test_nothing_gives_no_rows(nothing: Any, embed: Embed, fake: FakeServer) -> None:
    result = embed(fake, nothing)
    assert result.features.shape == (0, 16)
    assert result.features.dtype == np.float32
    assert fake.requests("embed_image") == []


def test_the_callers_own_error_comes_through(embed: Embed, fake: FakeServer) -> None:
    def images() -> Iterator[bytes]:
        yield b"a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        embed(fake, images(), batch_size=1)


def test_arguments_that_make_no_sense(embed: Embed, fake: FakeServer) -> None:
    with pytest.raises(ConfigError, match="on_error"):
        embed(fake, [b"a"], "ignore")
    with pytest.raises(InputError, match="expected images, got int"):
        embed(fake, 3)


def test_what_can_only_be_indexed_is_a_list_too() -> None:
    class DataSet:
        def __getitem__(self, index: int) -> str:
            return ["a cat", "a dog"][index]

    with Client(transport=FakeServer().transport()) as client:
        assert client.embed_texts(DataSet()).features.shape == (2, 16)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="expected texts, got ndarray"):
            client.embed_texts(np.array("a cat"))


def test_asynchronous_iterables_are_for_the_asynchronous_client(fake: FakeServer) -> None:
    async def images() -> AsyncIterator[bytes]:
        yield b"a"

    with Client(transport=fake.transport()) as client, pytest.raises(InputError, match="AsyncClient"):
        client.embed_images(images())  # type: ignore[arg-type]


def test_rows_of_different_widths_are_refused(embed: Embed, fake: FakeServer) -> None:
    def widen(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            fake.width += 1

    fake.before = widen
    with pytest.raises(ProtocolError, match="did the server's model change"):
        embed(fake, [b"a", b"b"], batch_size=1)


def test_a_cancelled_task_stops_its_requests() -> None:
    cancelled = 0

    class Stuck:
        async def send(self, call: Call, timeout: float) -> Any:  # noqa: ASYNC109
            nonlocal cancelled
            if isinstance(call, InferRequest) and call.model == "embed_image":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled += 1
                    raise
            return FakeServer().answer(call)

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        client = AsyncClient(transport=Stuck(), batch_size=1, concurrency=3)
        task = asyncio.create_task(client.embed_images([b"a"] * 10))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cancelled == 3


def test_progress_counts_items(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(transport=fake.transport()) as client:
        client.embed_images([b"a"] * 40, progress=True)
        assert "40/40" in capsys.readouterr().err
        client.embed_images([b"a"] * 40)
        assert capsys.readouterr().err == ""
