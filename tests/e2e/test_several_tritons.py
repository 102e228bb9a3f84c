"""Two Tritons of one model behind one gateway, which names both in one URL; one of them is killed while it works."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.gateway_server import GatewayProcess
from tests.reference import cosines, text_features
from tests.serving import start
from tests.waiting import wait_for
from tritonclip import Client
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def second(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tiny_repository, tmp_path_factory.mktemp("second") / "triton.log")
    yield running
    running.stop()


def inferences(server: Server) -> int:
    with Client(server.grpc_url) as client:
        return sum(each.inference_count for each in client.status().statistics or ())


def test_one_that_is_killed_is_not_missed(server: Server, second: Server, reference: Checkpoint) -> None:
    before = [inferences(each) for each in (server, second)]
    gateway = GatewayProcess("--url", f"{server.grpc_url},{second.grpc_url.partition('//')[2]}")
    numbers, stop = count(), threading.Event()
    answers: list[tuple[str, httpx.Response]] = []

    def ask() -> None:
        while not stop.is_set():
            text = f"a photo of {next(numbers)} cats"  # no text that is cached
            answers.append((text, httpx.post(f"{gateway.url}/v1/embeddings", json={"input": text}, timeout=60)))

    try:
        with ThreadPoolExecutor(6) as pool:
            workers = [pool.submit(ask) for _ in range(6)]
            try:
                wait_for(lambda: len(answers) > 30)
                # One that stands still is asked little; Triton counts a moment after it has answered.
                wait_for(
                    lambda: all(inferences(each) > was for each, was in zip((server, second), before, strict=True))
                )
                os.kill(second.pid, signal.SIGKILL)
                struck = len(answers)
                wait_for(lambda: len(answers) > struck + 30)
                assert httpx.get(f"{gateway.url}/health/ready", timeout=60).status_code == 200
            finally:
                stop.set()
            for worker in workers:
                worker.result()
    finally:
        gateway.stop()
    assert {answer.status_code for _, answer in answers} == {200}, gateway.said
    features = np.array([answer.json()["data"][0]["embedding"] for _, answer in answers], np.float32)
    assert cosines(features, text_features(reference, [text for text, _ in answers])).min() >= 0.999
