"""How many requests a worker has in flight, alone and beside others that know nothing of it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.datasets import captioned, write_tar
from tritonclip import Client, ClosedError, DeadlineExceededError, UnavailableError
from tritonclip.bulk import embed_dataset
from tritonclip.bulk._pace import PacedTransport
from tritonclip.protocol.messages import Call, InferRequest, Reply, ServerInfo, ServerInfoRequest
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer

CALL = ServerInfoRequest()


class Held:
    """A transport whose calls end when a test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[Reply]] = []

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        self.futures.append(Future())
        return self.futures[-1]

    def close(self) -> None:
        raise AssertionError("it is somebody else's")


def answer(future: Future[Reply]) -> None:
    future.set_result(ServerInfo("x", "1"))


def refuse(future: Future[Reply]) -> None:
    future.set_exception(status_error("UNAVAILABLE", "queue is full"))


def ticking() -> Callable[[], float]:
    """A clock that goes on by a second each time it is looked at."""
    times = iter(range(1_000_000))
    return lambda: float(next(times))


def test_it_grows_by_answers_is_halved_by_a_refusal_and_then_grows_slowly() -> None:
    held = Held()
    paced = PacedTransport(held, 10, ticking())
    grown = []
    for _ in range(5):
        paced.start(CALL, 1e6)
        answer(held.futures[-1])
        grown.append(paced.allowed)
    assert grown == [2, 3, 4, 5, 6]
    first, second, third = (paced.start(CALL, 1e6) for _ in range(3))
    refuse(first)
    assert paced.allowed == 3
    refuse(second)  # it was sent before, and says nothing new
    assert paced.allowed == 3
    answer(third)
    assert paced.allowed == pytest.approx(3 + 1 / 3)
    for _ in range(200):
        answer(paced.start(CALL, 1e6))
    assert paced.allowed == 10
    for _ in range(10):
        refuse(paced.start(CALL, 1e6))
    assert paced.allowed == 1


def test_a_call_waits_for_its_turn_as_long_as_it_may() -> None:
    held = Held()
    paced = PacedTransport(held, 4)
    paced.start(CALL, 10)
    with pytest.raises(DeadlineExceededError, match="no turn"):
        paced.start(CALL, 0.05)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(paced.start, CALL, 60)
        answer(held.futures[0])
        waiting.result(30)
        last = [pool.submit(paced.start, CALL, 60) for _ in range(3)]
        paced.close()
        assert sum(isinstance(future.exception(30), ClosedError) for future in last) >= 2


class Small(FakeServer):
    """Takes so many requests at a time, each of which lasts; refuses the others."""

    def __init__(self, places: int, seconds: float) -> None:
        super().__init__()
        self.free = threading.Semaphore(places)
        self.seconds = seconds
        self.refused = self.answered = 0

    def answer(self, call: Call, admin_key: str | None = None) -> Reply:
        if not (isinstance(call, InferRequest) and call.inputs):
            return super().answer(call, admin_key)
        if not self.free.acquire(blocking=False):
            self.refused += 1
            raise status_error("UNAVAILABLE", "queue is full", call.model)
        try:
            time.sleep(self.seconds)
            self.answered += 1
            return super().answer(call, admin_key)
        finally:
            self.free.release()


def test_many_workers_before_one_small_server_settle(tmp_path: Path) -> None:
    server = Small(places=4, seconds=0.02)
    workers, requests = 12, 10

    def work(number: int) -> int:
        source = tmp_path / "data" / str(number)
        write_tar(source / "0.tar", captioned(b"%d %d" % (number, image) for image in range(4 * requests)))
        with Client(transport=server.transport(), batch_size=4) as client:
            return embed_dataset(client, str(source), str(tmp_path / "out" / str(number)), workers=1).rows

    with ThreadPoolExecutor(workers) as pool:
        assert list(pool.map(work, range(workers))) == [4 * requests] * workers
    assert server.answered == workers * requests
    # Each of them has up to 8 requests ready, so without pacing and pauses 96 callers would knock all the time: some
    # 100 times for each answer. It is twice here, and more often where a slow machine makes the answers slow.
    assert server.refused < 10 * server.answered


def test_a_refusal_that_lasts_is_the_callers_error() -> None:
    held = Held()
    paced = PacedTransport(held, 4)
    future = paced.start(CALL, 10)
    refuse(held.futures[0])
    with pytest.raises(UnavailableError):
        future.result()
