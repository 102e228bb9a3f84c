"""Work in threads whose result nobody waits for any more."""

import threading

import pytest

from tests.waiting import wait_for
from tritonclip.protocol._futures import start_thread


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_given_up_ends_without_a_word(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    release, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        release.wait(30)
        if fails:
            raise ValueError("nobody hears of it")

    future = start_thread(work)
    wait_for(lambda: bool(threads))
    assert future.cancel()
    release.set()
    threads[0].join(30)
    assert said == []
