"""Which items fail, and with which error, when some of many do."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client.conftest import Embed
from tritonclip import (
    Client,
    ConnectError,
    InputError,
    NotFoundError,
    ServerError,
    UnavailableError,
    _defaults,
)
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer, features_of


def expected(images: list[bytes]) -> Any:
    return np.stack([features_of(image, 16) for image in images])


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
        for number in range(1_000_000):
            read += 1
            yield b"bad" if number == 7 else b"good"

    with pytest.raises(InputError):
        embed(fake, images(), batch_size=2, concurrency=2)
    assert read < 100_000  # a few; many where the thread with the error stood still, and the other went on


def test_a_request_that_failed_costs_its_items_alone(embed: Embed, fake: FakeServer) -> None:
    images = [str(number).encode() for number in range(6)]

    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image" and b"2" in call.inputs[0].items():
            raise status_error("INTERNAL", "broke", "embed_image")

    fake.before = fail
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
    error: Exception, kind: type[Exception], embed: Embed, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_defaults, "BACKOFF_FIRST", 1e12)  # no timeout leaves time for another attempt

    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            raise error

    fake.before = fail
    with pytest.raises(kind):
        embed(fake, [b"a"], "return")


def test_a_busy_server_is_an_error_in_the_end(embed: Embed, fake: FakeServer) -> None:
    attempts = itertools.count(1)

    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image":
            last = next(attempts) % 3 == 0  # then it is busy until long after the timeout
            raise status_error("UNAVAILABLE", "full", retry_after=1e6 if last else None)

    fake.before = fail
    with pytest.raises(UnavailableError):
        embed(fake, [b"a"])
    result = embed(fake, [b"a"], "return")
    assert next(attempts) == 7  # each was tried again
    assert isinstance(result.errors[0], UnavailableError)
    assert result.features.shape == (1, 16)  # the width comes from the manifest where no row tells it
