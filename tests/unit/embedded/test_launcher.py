"""What is started, watched and stopped, and in which order, on stand-ins for Triton and the gateway."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tritonclip_server.embedded import launcher
from tritonclip_server.embedded.errors import ServerDied, Stopped
from tritonclip_server.embedded.gateway import Gateway
from tritonclip_server.embedded.launcher import Deaths, Launcher
from tritonclip_server.embedded.server import Server

SLEEP = time.sleep


class Child:
    """A server or a gateway that notes what is done with it; `faults` are found one after the other."""

    url, grpc_url, http_url = "http://gateway", "grpc://triton", "http://triton"
    repository = Path("models/one")

    def __init__(self, name: str, notes: list[str], faults: list[str] | None = None) -> None:
        self.name, self.notes, self.faults = name, notes, faults or []
        self.during_start: Callable[[], None] = lambda: None

    def start(self, stopping: Callable[[], bool]) -> None:
        self.notes.append(f"start {self.name}")
        self.during_start()
        if stopping():
            raise Stopped("asked to stop")

    def restart(self, stopping: Callable[[], bool]) -> None:
        self.notes.append(f"restart {self.name}")

    def stop(self) -> None:
        self.notes.append(f"stop {self.name}")

    def fault(self) -> str | None:
        return self.faults.pop(0) if self.faults else None


class Run:
    """A launcher over two stand-ins; asked to stop when nothing is left to find."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, triton: Sequence[str] = (), gateway: Sequence[str] = ()
    ) -> None:
        self.notes: list[str] = []
        self.said: list[str] = []
        self.triton = Child("triton", self.notes, list(triton))
        self.gateway = Child("gateway", self.notes, list(gateway))
        self.launcher = Launcher([cast(Server, self.triton)], lambda _: cast(Gateway, self.gateway), self.said.append)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():  # left by another test
            SLEEP(seconds)
        elif not self.triton.faults and not self.gateway.faults:
            self.launcher.stop()

    def run(self, greet: Callable[..., Any] = lambda *_: None) -> None:
        self.launcher.run(greet)


def test_the_gateway_stops_before_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.run(lambda *_: run.notes.append("greet"))
    assert run.notes == ["start triton", "start gateway", "greet", "stop gateway", "stop triton"]
    assert run.said[0].startswith("ready after ")
    assert run.said[1:] == ["gateway ready: http://gateway"]


def test_what_dies_is_started_again_and_the_other_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, triton=["Triton ended"], gateway=["the gateway ended"])
    run.run()
    middle = ["restart triton", "stop gateway", "start gateway"]
    assert run.notes == ["start triton", "start gateway", *middle, "stop gateway", "stop triton"]
    deaths = [line for line in run.said if "error" in line]
    time_of_day = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    assert re.fullmatch(f"{time_of_day} error: Triton ended; starting Triton again", deaths[0])
    assert re.fullmatch(f"{time_of_day} error: the gateway ended; starting it again", deaths[1])


def test_of_several_servers_the_one_that_dies_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, triton=["Triton ended"])
    other = Child("other", run.notes)
    run.triton.repository = Path("models/two")
    run.launcher = Launcher(
        [cast(Server, other), cast(Server, run.triton)], lambda _: cast(Gateway, run.gateway), run.said.append
    )
    run.run(lambda *_: run.notes.append("greet"))
    middle = ["greet", "restart triton", "stop gateway"]
    assert run.notes[:-2] == ["start other", "start triton", "start gateway", *middle]
    assert sorted(run.notes[-2:]) == ["stop other", "stop triton"]  # at the same time
    assert [line.split("s: ")[-1] for line in run.said[:2]] == [
        "one  grpc://triton  http://triton", "two  grpc://triton  http://triton",
    ]  # fmt: skip
    assert any(line.endswith("error: Triton ended; starting Triton on two again") for line in run.said)


def test_one_that_cannot_be_stopped_leaves_no_other_running(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    broken = Child("broken", run.notes)
    monkeypatch.setattr(broken, "stop", lambda: pytest.fail("it cannot be stopped"))
    run.launcher = Launcher([cast(Server, broken), cast(Server, run.triton)], None, run.said.append)
    with pytest.raises(pytest.fail.Exception, match="cannot be stopped"):
        run.run()
    assert run.notes[-1] == "stop triton"


@pytest.mark.parametrize("victim", ["triton", "gateway"])
def test_what_keeps_dying_is_given_up_and_all_is_stopped(monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    run = Run(monkeypatch, **{victim: ["it ended"] * 4})
    with pytest.raises(ServerDied, match="it ended, for the 4th time in 300 s: giving up"):
        run.run()
    assert run.notes[-2:] == ["stop gateway", "stop triton"]


def test_deaths_long_ago_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deaths = Deaths()
    for _ in range(10):
        deaths.count("it died")
        now += launcher.RESTART_WINDOW_SECONDS / launcher.MAX_RESTARTS


@pytest.mark.parametrize("moment", ["triton", "gateway"])
def test_asked_to_stop_while_starting_it_starts_nothing_more(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    run = Run(monkeypatch)
    getattr(run, moment).during_start = run.launcher.stop
    run.run(lambda *_: pytest.fail("it was asked to stop"))
    started = {"triton": ["start triton"], "gateway": ["start triton", "start gateway"]}[moment]
    assert [note for note in run.notes if note.startswith("start")] == started
    assert run.notes[-1] == "stop triton"


def test_a_failure_to_start_is_reported_unless_it_was_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise ServerDied("Triton ended with code 1")

    run = Run(monkeypatch)
    run.triton.during_start = die
    with pytest.raises(ServerDied):
        run.run()
    assert run.notes == ["start triton", "stop triton"]
    run = Run(monkeypatch)

    def stop_and_die() -> None:
        run.launcher.stop()
        die()

    run.triton.during_start = stop_and_die
    run.run()
