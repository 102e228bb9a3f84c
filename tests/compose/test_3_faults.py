"""Two instances of Triton share the work; what is killed comes back, and service goes on meanwhile."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.compose.conftest import Stack, is_healthy, wait_for

COUNT = """
import re, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:8002/metrics").read().decode()
print(*re.findall(r'nv_inference_request_success{model="embed_text".*} (\\d+)', text))
"""
KILL_ENCODERS = """
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        if "image_encoder" in path.read_text() and int(path.parent.name) != os.getpid():
            os.kill(int(path.parent.name), 9)
    except (FileNotFoundError, ProcessLookupError):  # one that has ended, such as a health check
        pass
"""


@pytest.fixture(scope="module")
def pair(stack: Stack) -> list[str]:
    """Two containers of `triton`, by id."""
    stack.compose("up", "--wait", "--scale", "triton=2")
    wait_for("both healthy", lambda: [*map(is_healthy, stack.containers("triton"))] == [True, True])
    return [container["Id"] for container in stack.containers("triton")]


class Caller:
    """Asks the gateway for vectors of ever new texts, one after the other, until it is stopped."""

    def __init__(self, url: str, key: str) -> None:
        self.statuses: Counter[str] = Counter()
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            try:
                answer = self._http.post("/v1/embeddings", json={"input": f"text {number} of {id(self)}"})
                self.statuses[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                self.statuses[type(error).__name__] += 1

    @contextmanager
    def calling(self) -> Iterator["Caller"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join()
            self._http.close()


def served(stack: Stack, containers: list[str]) -> list[int]:
    return [int(stack.python(container, COUNT)) for container in containers]


def test_both_instances_get_requests(stack: Stack, key: str, pair: list[str]) -> None:
    before = served(stack, pair)
    with Caller(stack.gateway_url, key).calling() as caller:
        wait_for(
            "requests at both instances",
            lambda: all(now > then + 20 for now, then in zip(served(stack, pair), before, strict=True)),
        )
    assert set(caller.statuses) == {"200"}, stack.compose("logs", "--no-color", "--tail=50", "gateway")


def test_a_killed_instance_costs_no_request_and_comes_back(stack: Stack, key: str, pair: list[str]) -> None:
    victim = stack.containers("triton")[0]
    with Caller(stack.gateway_url, key).calling() as caller:
        wait_for("answers", lambda: caller.statuses["200"] > 10)
        os.kill(victim["State"]["Pid"], signal.SIGKILL)
        seen = caller.statuses["200"]
        wait_for("answers from the other one", lambda: caller.statuses["200"] > seen + 20)
        wait_for("the container started again", lambda: back(stack, victim["Id"], starts=1))
    assert set(caller.statuses) == {"200"}, stack.compose("logs", "--no-color", "--tail=50", "gateway")


def test_a_killed_gateway_comes_back(stack: Stack, key: str) -> None:
    (victim,) = stack.containers("gateway")
    os.kill(victim["State"]["Pid"], signal.SIGKILL)
    wait_for("the gateway started again", lambda: back_by_name(stack, "gateway"))
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{stack.gateway_url}/v1/embeddings", json={"input": "again"}, headers=headers, timeout=60)
    assert answer.status_code == 200


def test_a_model_process_that_dies_is_replaced(stack: Stack, pair: list[str]) -> None:
    stack.python(pair[1], KILL_ENCODERS)
    wait_for("Triton ready again", lambda: "starting Triton again" in stack.logs())
    wait_for("healthy", lambda: all(map(is_healthy, stack.containers("triton"))))


def back(stack: Stack, container: str, *, starts: int) -> bool:
    (found,) = [entry for entry in stack.containers("triton") if entry["Id"] == container]
    return bool(found["RestartCount"] >= starts) and is_healthy(found)


def back_by_name(stack: Stack, service: str) -> bool:
    (found,) = stack.containers(service)
    return bool(found["RestartCount"] >= 1) and is_healthy(found)
