"""What image_preprocess and the encoders of the embedded server tell each other, so that no work is done in vain."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.modules import MODELS, load_model, load_module, request

FOLDER = MODELS / "image_preprocess" / "1"
backlog = load_module(FOLDER / "backlog.py")
load_module(FOLDER / "preprocess.py")  # and numba with it, which cannot be imported twice, as load_model would
GOOD = (Path(__file__).parents[2] / "samples" / "photos" / "cat.jpg").read_bytes()
LIMIT = 3
SLEEP = time.sleep
NOTHING = "it waited, and nothing more was going to happen"


class Meanwhile:
    """What happens while somebody waits for room: one thing at each pause; `pauses` counts them."""

    def __init__(self) -> None:
        self.pauses = 0
        self.now = 10**12
        self.events: list[Callable[[], None]] = []

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():  # left by another test
            SLEEP(seconds)
            return
        self.pauses += 1
        assert self.events, NOTHING
        self.events.pop(0)()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    events = Meanwhile()
    monkeypatch.setattr(time, "sleep", events.sleep)
    monkeypatch.setattr(time, "monotonic_ns", events.monotonic_ns)
    return events


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the file that a server's processes share."""
    monkeypatch.setenv(backlog.VARIABLE, str(tmp_path / "server"))
    return tmp_path / "server.image_encoder"


def busy_encoder(path: Path) -> Any:
    """One instance, which computes, and whose queue holds LIMIT requests."""
    encoder = backlog.Backlog(path)
    encoder.join(LIMIT)
    encoder.take(1)
    return encoder


def next_batch(encoder: Any, requests: int) -> None:
    encoder.rest()
    encoder.take(requests)


def hand_on(preparing: Any, requests: int) -> None:
    preparing.enter(requests)
    preparing.leave(requests, good=requests)


def preprocess() -> Any:
    return load_model(FOLDER / "model.py", {"output": [{"name": "pixels", "dims": [3, 32, 32]}]})


def codes(responses: list[Any]) -> list[str | None]:
    return [response.error.code if response.error else None for response in responses]


def test_what_is_prepared_and_what_waits_is_no_more_than_the_queue_holds(path: Path, meanwhile: Meanwhile) -> None:
    encoder, one, other = busy_encoder(path), backlog.Backlog(path), backlog.Backlog(path)
    one.enter(2)
    other.enter(1)
    assert meanwhile.pauses == 0
    one.leave(2, good=2)
    meanwhile.events = [lambda: None, lambda: next_batch(encoder, 2)]
    one.enter(2)
    assert meanwhile.pauses == 2


def test_what_an_instance_with_nothing_to_do_will_take_is_not_room_yet(path: Path, meanwhile: Meanwhile) -> None:
    """All of it may arrive before the instance takes the first."""
    backlog.Backlog(path).join(LIMIT)
    preparing = backlog.Backlog(path)
    preparing.enter(LIMIT)
    with pytest.raises(AssertionError, match=NOTHING):
        preparing.enter(1)


def test_what_is_not_handed_on_is_not_waited_for(path: Path, meanwhile: Meanwhile) -> None:
    busy_encoder(path)
    preparing = backlog.Backlog(path)
    for _ in range(2):
        preparing.enter(LIMIT)
        preparing.leave(LIMIT, good=0)
    assert meanwhile.pauses == 0


def test_what_vanished_from_the_queue_keeps_nobody_waiting_once_an_instance_has_nothing_to_do(
    path: Path, meanwhile: Meanwhile
) -> None:
    """Cancelled: the instance would have taken it. Triton knows."""
    waiting = [LIMIT, 0]
    encoder, preparing = busy_encoder(path), backlog.Backlog(path, lambda: waiting.pop(0))
    hand_on(preparing, LIMIT)

    def time_passes() -> None:
        meanwhile.now += backlog.DOUBT_NS + 1

    meanwhile.events = [time_passes, encoder.rest, time_passes, time_passes, lambda: None]
    hand_on(preparing, LIMIT)
    assert meanwhile.pauses == 5
    assert waiting == []


def test_triton_is_not_asked_of_what_was_handed_on_a_moment_ago(path: Path, meanwhile: Meanwhile) -> None:
    """Between two batches an instance has nothing to do, while a whole queue waits for it."""
    asked: list[int] = []
    encoder, preparing = busy_encoder(path), backlog.Backlog(path, lambda: asked.append(1) or 0)  # type: ignore[func-returns-value]
    hand_on(preparing, LIMIT)
    meanwhile.now += 10 * backlog.DOUBT_NS
    encoder.rest()
    meanwhile.events = [lambda: encoder.take(LIMIT)]
    preparing.enter(LIMIT)
    assert meanwhile.pauses == 1
    assert asked == []


def test_what_moves_while_triton_is_asked_counts_more_than_its_answer(path: Path, meanwhile: Meanwhile) -> None:
    encoder = busy_encoder(path)

    def taken_meanwhile() -> int:
        encoder.take(1)
        return LIMIT

    preparing = backlog.Backlog(path, taken_meanwhile)
    hand_on(preparing, LIMIT)
    encoder.rest()
    meanwhile.now += backlog.DOUBT_NS + 1
    meanwhile.events = [lambda: None]
    preparing.enter(1)
    assert preparing.cells[backlog.WAITING] == LIMIT - 1


def test_a_part_of_the_queue_leaves_the_rest_waiting(path: Path, meanwhile: Meanwhile) -> None:
    encoder, preparing = busy_encoder(path), backlog.Backlog(path)
    hand_on(preparing, LIMIT)
    next_batch(encoder, 1)
    preparing.enter(1)
    with pytest.raises(AssertionError, match=NOTHING):
        preparing.enter(1)


def test_more_than_the_queue_holds_waits_until_nothing_else_does(path: Path, meanwhile: Meanwhile) -> None:
    encoder, preparing = busy_encoder(path), backlog.Backlog(path)
    hand_on(preparing, 1)
    meanwhile.events = [lambda: next_batch(encoder, 1)]
    preparing.enter(LIMIT + 1)
    assert meanwhile.pauses == 1


def test_those_who_wait_get_their_turns_in_order(path: Path) -> None:
    """However little a later one asks for."""
    encoder, preparing = busy_encoder(path), backlog.Backlog(path)
    hand_on(preparing, 2)
    order: list[int] = []

    def enter(requests: int) -> None:
        backlog.Backlog(path).enter(requests)
        order.append(requests)

    threads = [threading.Thread(target=enter, args=(requests,)) for requests in (2, 1)]
    for number, thread in enumerate(threads, 2):
        thread.start()
        while backlog.Backlog(path).cells[backlog.ARRIVED] < number:
            pass
    assert order == []
    next_batch(encoder, 2)
    for thread in threads:
        thread.join()
    assert sorted(order) == [1, 2]
    assert preparing.cells[backlog.PREPARING] == LIMIT


def test_without_an_encoder_that_tells_nobody_waits(
    path: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_on(backlog.Backlog.of("image_encoder"), 1000)  # it may not have loaded yet
    monkeypatch.delenv(backlog.VARIABLE)
    hand_on(backlog.Backlog.of("image_encoder"), 1000)
    assert meanwhile.pauses == 0


def _die_with_the_lock(path: Path) -> None:
    with backlog.Backlog(path).locked():
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_with_the_lock_keeps_nobody_waiting(path: Path, meanwhile: Meanwhile) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_with_the_lock, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    backlog.Backlog(path).enter(1)


def test_nothing_is_decoded_before_the_encoder_has_room(
    path: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, model = busy_encoder(path), preprocess()
    requests = [request("image", [GOOD])] * 2
    assert codes(model.execute(requests)) == [None] * 2
    prepared: list[int] = []
    prepare = model.prepare

    def noted(batch: list[Any]) -> Any:
        prepared.append(len(batch))
        return prepare(batch)

    monkeypatch.setattr(model, "prepare", noted)

    def take() -> None:
        assert prepared == []
        next_batch(encoder, 2)

    meanwhile.events = [take]
    assert codes(model.execute(requests)) == [None] * 2
    assert prepared == [2]
    assert meanwhile.pauses == 1


def test_bad_images_take_no_place(path: Path, meanwhile: Meanwhile) -> None:
    busy_encoder(path)
    model = preprocess()
    for _ in range(LIMIT):
        assert codes(model.execute([request("image", [b"no image"])])) == ["INVALID_ARG"]
    assert codes(model.execute([request("image", [GOOD])] * LIMIT)) == [None] * LIMIT


def test_a_fault_takes_no_place(path: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_encoder(path)
    model = preprocess()
    requests = [request("image", [GOOD])] * LIMIT
    with monkeypatch.context() as broken:
        broken.setattr(model, "prepare", lambda batch: batch[len(batch)])
        with pytest.raises(IndexError):
            model.execute(requests)
    assert codes(model.execute(requests)) == [None] * LIMIT
