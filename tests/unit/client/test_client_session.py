"""Retries, deadlines and what counts as having reached the server: on a clock of our own, nobody sleeps."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from tritonclip import (
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    InvalidArgumentError,
    ServerError,
    TritonClipError,
    UnavailableError,
    _defaults,
)
from tritonclip._core.drivers import SyncDriver
from tritonclip._core.session import Session
from tritonclip.protocol import answered
from tritonclip.protocol.messages import Call, InferRequest, InferResponse, Reply
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer

MANIFEST = InferRequest("manifest", (), ("manifest",))
BUSY = status_error("UNAVAILABLE", "Exceeds maximum queue size")
AWAY = ConnectError("grpc://there:1", "refused")


class World:
    """A clock, a server that takes ``cost`` seconds for an answer, and a record of timeouts and pauses."""

    def __init__(
        self, *failures: TritonClipError, cost: float = 0.0, random: float = 1.0, timeout: float = 60.0
    ) -> None:
        self.now = 1000.0
        self.cost = cost
        self.server = FakeServer()
        self.server.failures.extend(failures)
        self.timeouts: list[float] = []
        self.pauses: list[float] = []
        self.session = Session(timeout, clock=lambda: self.now, random=lambda: random)
        self.driver = SyncDriver(self, self.sleep)

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        self.timeouts.append(timeout)
        self.now += self.cost
        return answered(self.server.answer, call)

    def close(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def call(self) -> Reply:
        return self.driver.run(self.session.call(MANIFEST))


def test_unavailable_is_retried_with_growing_pauses() -> None:
    world = World(*[BUSY] * 8)
    assert isinstance(world.call(), InferResponse)
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_pauses_are_jittered_from_zero() -> None:
    world = World(*[BUSY] * 3, random=0.25)
    world.call()
    assert world.pauses == pytest.approx([0.025, 0.05, 0.1])
    world = World(*[BUSY] * 3, random=0.0)
    world.call()
    assert world.pauses == [0.0, 0.0, 0.0]


def test_each_attempt_has_what_is_left_of_the_timeout() -> None:
    world = World(BUSY, BUSY, cost=10.0, timeout=60.0)
    world.call()
    assert world.timeouts == pytest.approx([60.0, 49.9, 39.7])


def test_the_last_error_is_raised_when_time_is_up() -> None:
    world = World(*[BUSY] * 1000, timeout=20.0)
    with pytest.raises(UnavailableError) as caught:
        world.call()
    assert caught.value is BUSY
    assert world.now <= 1020.0
    assert all(timeout > 0 for timeout in world.timeouts)
    assert len(world.timeouts) == len(world.pauses) + 1


def test_time_that_runs_out_in_a_pause_is_a_deadline() -> None:
    world = World(BUSY, timeout=1.0)
    overslept = world.sleep

    def sleep(seconds: float) -> None:
        overslept(seconds + 5.0)

    world.driver = SyncDriver(world, sleep)
    with pytest.raises(DeadlineExceededError):
        world.call()
    assert len(world.timeouts) == 1


BROKEN = status_error("INTERNAL", "a process died")


def test_a_server_that_fails_is_asked_twice_more() -> None:
    world = World(BROKEN, BUSY, BROKEN)
    assert isinstance(world.call(), InferResponse)
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4])
    world = World(*[BROKEN] * 3)
    with pytest.raises(ServerError):
        world.call()
    assert (len(world.timeouts), len(world.pauses)) == (3, 2)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "CANCELLED"])
def test_other_errors_are_not_retried(code: str) -> None:
    world = World(status_error(code, "no"))
    with pytest.raises(TritonClipError):
        world.call()
    assert (len(world.timeouts), world.pauses) == (1, [])


def test_a_server_never_reached_fails_at_once() -> None:
    world = World(AWAY)
    with pytest.raises(ConnectError):
        world.call()
    assert world.pauses == []


@pytest.mark.parametrize("first", [None, BUSY, status_error("INTERNAL", "x"), status_error("INVALID_ARGUMENT", "x")])
def test_a_server_once_reached_is_waited_for(first: TritonClipError | None) -> None:
    world = World(*([first] if first else []))
    with contextlib.suppress(ServerError, InvalidArgumentError):
        world.call()
    world.pauses.clear()
    world.server.failures.extend([AWAY, AWAY])
    world.call()
    assert len(world.pauses) == 2


def test_a_deadline_of_our_own_does_not_count_as_reached() -> None:
    world = World(status_error("DEADLINE_EXCEEDED", "late"), AWAY)
    with pytest.raises(DeadlineExceededError):
        world.call()
    with pytest.raises(ConnectError):
        world.call()
    assert world.pauses == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Session(timeout=0),
        lambda: Session(timeout=-1),
        lambda: Session(timeout=float("nan")),
        lambda: Session(concurrency=0),
        lambda: Session(batch_size=0),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Session]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_defaults_are_the_documented_ones() -> None:
    assert (_defaults.URL, _defaults.TIMEOUT, _defaults.CONCURRENCY) == ("grpc://localhost:8001", 60.0, 8)
    assert (_defaults.IMAGES_PER_REQUEST, _defaults.TEXTS_PER_REQUEST) == (16, 64)
