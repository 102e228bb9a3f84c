"""Long iterables: read lazily, kept in order, with so many requests in flight and no more; failing items isolated."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonclip import (
    AsyncClient,
    Client,
    ConfigError,
    ConnectError,
    Embeddings,
    InputError,
    NotFoundError,
    ProtocolError,
    ServerError,
    UnavailableError,
    _defaults,
)
from tritonclip._embed import group_by_size
from tritonclip._errors import status_error
from tritonclip._messages import Call, InferRequest
from tritonclip.testing import FakeServer, features_of

OnError = Literal["raise", "return"]
Embed = Callable[..., Embeddings]


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    """Embed images on a fake server, by either client."""

    def run_sync(fake: FakeServer, images: Any, on_error: OnError = "raise", **options: Any) -> Embeddings:
        with Client(transport=fake.transport(), **options) as client:
            return client.embed_images(images, on_error=on_error)

    def run_async(fake: FakeServer, images: Any, on_error: OnError = "raise", **options: Any) -> Embeddings:
        async def main() -> Embeddings:
            async with AsyncClient(transport=fake.async_transport(), **options) as client:
                return await client.embed_images(images, on_error=on_error)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


def expected(images: list[bytes]) -> Any:
    return np.stack([features_of(image, 16) for image in images])


def test_order_is_the_callers(embed: Embed, fake: FakeServer) -> None:
    images = [f"image {number}".encode() for number in range(101)]
    result = embed(fake, iter(images), batch_size=3, concurrency=5)
    np.testing.assert_array_equal(result.features, expected(images))
    assert result.errors == {}
    assert len(result) == 101


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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 4))
def test_exactly_the_failing_items_fail(bad: list[bool], batch_size: int, concurrency: int) -> None:
    images = [b"bad" if fails else str(number).encode() for number, fails in enumerate(bad)]
    with Client(transport=FakeServer().transport(), batch_size=batch_size, concurrency=concurrency) as client:
        result = client.embed_images(images, on_error="return")
        assert list(result.errors) == [number for number, fails in enumerate(bad) if fails]
        for number, image in enumerate(images):
            if number in result.errors:
                error = result.errors[number]
                assert isinstance(error, InputError)
                assert error.index == number
                assert np.isnan(result.features[number]).all()
            else:
                np.testing.assert_array_equal(result.features[number], features_of(image, 16))
        if any(bad):
            with pytest.raises(InputError) as caught:
                client.embed_images(images)
            assert caught.value.index == bad.index(True)


def test_isolation_halves_rather_than_sending_one_by_one(embed: Embed, fake: FakeServer) -> None:
    images = [b"good"] * 16
    images[11] = b"bad"
    embed(fake, images, "return")
    sizes = [request.inputs[0].shape[0] for request in fake.requests("embed_image")]
    assert sizes == [16, 8, 8, 4, 2, 2, 1, 1, 4]


def test_client_side_and_server_side_failures_mix(embed: Embed, fake: FakeServer) -> None:
    images = [b"a", "/no/such/file.jpg", b"bad", 3.5, b"b"]
    result = embed(fake, images, "return")
    assert {index: str(error) for index, error in result.errors.items()} == {
        1: "image 1: No such file or directory: /no/such/file.jpg",
        2: "image 2: cannot identify the image format",
        3: "image 3: expected a path, bytes, a binary file, a PIL image or a uint8 array, got float",
    }
    with pytest.raises(InputError) as caught:
        embed(fake, [b"a", b"bad", "/no/such/file.jpg"])
    assert caught.value.index == 1  # not 2, though that is known before anything is sent


def test_the_lowest_index_is_raised_though_a_later_one_fails_first(embed: Embed) -> None:
    later_failed = threading.Event()

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            (image,) = call.inputs[0].items()
            if image == b"bad late":
                later_failed.set()
            elif image == b"bad early" and threading.current_thread() is not threading.main_thread():
                assert later_failed.wait(20)

    fake = FakeServer(before=before)
    with pytest.raises(InputError) as caught:
        embed(fake, [b"a", b"bad early", b"c", b"bad late"], batch_size=1, concurrency=4)
    assert caught.value.index == 1


def test_an_error_stops_the_reading(embed: Embed, fake: FakeServer) -> None:
    read = 0

    def images() -> Iterator[bytes]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield b"bad" if number == 7 else b"good"

    with pytest.raises(InputError):
        embed(fake, images(), batch_size=2, concurrency=2)
    assert read < 1000


def test_a_request_that_failed_costs_its_items_alone(embed: Embed, fake: FakeServer) -> None:
    images = [str(number).encode() for number in range(6)]

    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image" and b"2" in call.inputs[0].items():
            raise status_error("INTERNAL", "broke", "embed_image")

    fake._before = fail
    result = embed(fake, images, "return", batch_size=2)
    assert list(result.errors) == [2, 3]
    assert all(isinstance(error, ServerError) for error in result.errors.values())
    np.testing.assert_array_equal(result.features[[0, 1, 4, 5]], expected([b"0", b"1", b"4", b"5"]))
    with pytest.raises(ServerError):
        embed(fake, images, "raise", batch_size=2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(status_error("NOT_FOUND", "no such model"), NotFoundError), (ConnectError("grpc://x:1", "gone"), ConnectError)],
)
def test_what_concerns_all_items_ends_the_run(
    error: Exception, kind: type[Exception], embed: Embed, fake: FakeServer
) -> None:
    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            raise error

    fake._before = fail
    with pytest.raises(kind):
        embed(fake, [b"a"], "return", timeout=0.05)


def test_a_busy_server_is_an_error_in_the_end(embed: Embed, fake: FakeServer) -> None:
    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            raise status_error("UNAVAILABLE", "full")

    fake._before = fail
    with pytest.raises(UnavailableError):
        embed(fake, [b"a"], timeout=0.05)
    result = embed(fake, [b"a"], "return", timeout=0.05)
    assert isinstance(result.errors[0], UnavailableError)
    assert result.features.shape == (1, 16)  # the width comes from the manifest where no row tells it


def test_batches_keep_to_the_servers_limit(embed: Embed) -> None:
    fake = FakeServer(max_batch_size=4)
    embed(fake, [b"a"] * 10, batch_size=64)
    assert sorted(request.inputs[0].shape[0] for request in fake.requests("embed_image")) == [2, 4, 4]


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


def test_asynchronous_iterables_are_for_the_asynchronous_client(fake: FakeServer) -> None:
    async def images() -> AsyncIterator[bytes]:
        yield b"a"

    with Client(transport=fake.transport()) as client, pytest.raises(InputError, match="AsyncClient"):
        client.embed_images(images())  # type: ignore[arg-type]


def test_rows_of_different_widths_are_refused(embed: Embed, fake: FakeServer) -> None:
    def widen(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            fake._width += 1

    fake._before = widen
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
