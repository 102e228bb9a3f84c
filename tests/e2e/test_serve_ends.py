"""How the launcher ends: by signals, by death, killed at its worst moment; and that it leaves nothing behind."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.image_files import encode
from tests.images import data_url
from tests.launching import Launcher, family_of, files_left, leftovers, shared_memory
from tests.reference import PHOTOS
from tests.serving import start
from tritonclip import Client, TritonClipError
from tritonclip_server.embedded.claim import clear_abandoned


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_and_leaves_nothing(launcher: Launcher, number: signal.Signals) -> None:
    with Client(launcher.ready_url()) as client:
        client.embed_images(PHOTOS[:1])
    family = [launcher.triton().pid, *(child.pid for child in launcher.triton().children(recursive=True))]
    assert len(family) == 12  # Triton and its eleven stubs
    assert shared_memory(launcher.process.pid)
    family += [child.pid for child in psutil.Process(launcher.process.pid).children()]
    launcher.process.send_signal(number)
    assert launcher.process.wait() == 0
    assert leftovers(family) == []
    assert files_left(launcher.process.pid) == []


def test_a_signal_before_it_is_ready_ends_it_too(launcher: Launcher) -> None:
    family = loading(launcher)
    launcher.process.send_signal(signal.SIGHUP)  # as of a terminal that is closed
    assert launcher.process.wait() == 0
    assert leftovers([process.pid for process in family]) == []
    assert files_left(launcher.process.pid) == []


@pytest.mark.parametrize(
    "victim", ["image_encoder_0_0", pytest.param("image_preprocess_0_1", marks=pytest.mark.long), "tritonserver"]
)
def test_a_killed_process_is_noticed_and_service_comes_back(launcher: Launcher, victim: str) -> None:
    url = launcher.ready_url()
    triton = launcher.triton()
    with Client(url) as client:
        before = client.embed_images(PHOTOS[:1]).features
    family = [triton, *triton.children()]
    next(process for process in family if victim in process.cmdline() or process.name() == victim).kill()
    said = launcher.read_until("error:")
    assert "starting Triton again" in said
    assert victim in said or "ended with code -9" in said
    assert launcher.ready_url() == url
    with Client(url) as client:
        assert (client.embed_images(PHOTOS[:1]).features == before).all()
    assert leftovers([process.pid for process in family]) == []


def begun(launcher: Launcher) -> list[psutil.Process]:
    """Its processes right after the first of them was started."""
    launcher.read_until("starting Triton")
    return family_of(launcher, 1)


def loading(launcher: Launcher) -> list[psutil.Process]:
    """Its processes while models are loaded: they look at nobody then, and Triton dies of SIGTERM without them."""
    return family_of(launcher, 5)


def serving(launcher: Launcher) -> list[psutil.Process]:
    """Its processes while it serves, and is asked."""
    url = launcher.ready_url()
    launcher.read_until("gateway ready")
    threading.Thread(target=ask_until_it_fails, args=(url,), daemon=True).start()
    return family_of(launcher, 13)


def ask_until_it_fails(url: str) -> None:
    with Client(url, timeout=5) as client, suppress(TritonClipError):
        while True:
            client.embed_texts([str(time.monotonic())])


@pytest.mark.parametrize("moment", [begun, pytest.param(loading, marks=pytest.mark.long), serving])
def test_a_killed_launcher_takes_everything_with_it(
    moment: Callable[[Launcher], list[psutil.Process]], tiny_repository: Path, tmp_path: Path
) -> None:
    with Launcher(tiny_repository, tmp_path, "--gateway-port", "0") as launcher:
        family = moment(launcher)
        launcher.process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert files_left(launcher.process.pid) == []


def halted(process: psutil.Process) -> list[psutil.Process]:
    """It and all below it, each stopped before its children are looked for: so none is missed, and none acts."""
    with suppress(psutil.NoSuchProcess):  # some are short-lived
        process.suspend()
        return [process, *(one for child in process.children() for one in halted(child))]
    return []


@pytest.mark.alone  # whoever starts a server beside it clears what it left
def test_what_is_killed_with_its_keepers_is_cleared_by_the_next_start(tiny_repository: Path, tmp_path: Path) -> None:
    with Launcher(tiny_repository, tmp_path) as launcher:
        loading(launcher)
        family = halted(psutil.Process(launcher.process.pid))
        for process in reversed(family):  # whose parent stands still stays there to be killed
            process.kill()
    psutil.wait_procs(family, timeout=30)
    assert files_left(launcher.process.pid)
    clear_abandoned()  # as Server.start does first of all
    assert files_left(launcher.process.pid) == []


class Answer(NamedTuple):
    """One request to the gateway: when it began and ended, and its status, or the error that came instead."""

    began: float
    ended: float
    outcome: str


def test_what_is_under_way_ends_and_what_comes_later_is_refused(tiny_repository: Path, tmp_path: Path) -> None:
    """The gateway ends first, and Triton only then."""
    answers: list[Answer] = []
    over = threading.Event()

    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    images = [data_url(encode(Image.fromarray(noise), "JPEG"), "jpeg")] * 8  # some tenths of a second of work

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
            while not over.is_set():
                began = time.monotonic()
                try:
                    outcome = str(http.post("/v1/embeddings", json={"input": images}).status_code)
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                    time.sleep(0.05)  # it is gone for good
                answers.append(Answer(began, time.monotonic(), outcome))

    with Launcher(tiny_repository, tmp_path, "--gateway-port", "0") as launcher:
        url = launcher.read_until("gateway ready").split()[-1]
        triton = launcher.triton()
        threads = [threading.Thread(target=ask, args=(url,), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        asked = time.monotonic()
        launcher.process.terminate()
        assert launcher.process.wait(60) == 0
        assert not triton.is_running()
    over.set()
    for thread in threads:
        thread.join(60)
    assert len(answers) > 8
    under_way = [answer for answer in answers if answer.began < asked - 0.05 and answer.ended > asked]
    assert under_way, "nothing was under way, so this showed nothing"
    assert {answer.outcome for answer in under_way} == {"200"}
    refusals = {"503", "ConnectError", "ReadError", "RemoteProtocolError"}  # the last two: not yet accepted
    assert {answer.outcome for answer in answers} <= {"200", *refusals}


@pytest.mark.long  # a launcher whose Triton dies four times; test_launcher has the rule
def test_what_dies_again_and_again_is_given_up(tiny_repository: Path, tmp_path: Path) -> None:
    """A server that cannot stay up must end, so that whoever supervises it sees."""
    with Launcher(tiny_repository, tmp_path) as running:
        for _ in range(3):
            running.ready_url()
            running.triton().kill()
        running.ready_url()
        running.triton().kill()
        assert "giving up" in running.read_until("giving up")
        assert running.process.wait() == 1


def test_clients_of_a_dying_server_get_an_error_not_silence(tiny_repository: Path, tmp_path: Path) -> None:
    running = start(tiny_repository, tmp_path / "log")
    try:
        with Client(running.grpc_url, timeout=3) as client:
            client.embed_images(PHOTOS[:1])
            os.kill(running.pid, signal.SIGKILL)
            with pytest.raises(TritonClipError):  # at the client's own timeout; a hang would end at the test's
                client.embed_images(PHOTOS[:1])
    finally:
        running.stop()
