"""`tritonclip-server serve` on two repositories: two Tritons and one gateway, which outlives either of them."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import pytest

from tests.launching import Launcher, files_left, leftovers
from tests.waiting import wait_for
from tritonclip import Client

TEXT = "a red triangle"


@pytest.fixture(scope="module")
def launcher(
    demo_repository: Path, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launcher]:
    flags = ("--gateway-port", "0", "--gateway-flags=--alias small=tiny-convnext-none", "--greet")
    with Launcher(demo_repository, tmp_path_factory.mktemp("log"), *flags, others=[tiny_repository]) as running:
        yield running


@pytest.fixture(scope="module")
def urls(launcher: Launcher) -> dict[str, str]:
    """Of each model's Triton, and of the gateway."""
    urls = {name: launcher.ready_url() for name in ("demo", "tiny-convnext-none")}
    return urls | {"gateway": launcher.read_until("gateway ready").split()[-1]}


def ask(url: str, model: str | None, seconds: float = 30) -> httpx.Response:
    body = {"input": str(time.monotonic())} | ({"model": model} if model else {})  # no text that is cached
    return httpx.post(f"{url}/v1/embeddings", json=body, headers={"x-request-timeout": str(seconds)}, timeout=60)


@pytest.mark.parametrize("model", [None, "demo", "tiny-convnext-none", "small"])
def test_openais_sdk_chooses_a_model(urls: dict[str, str], model: str | None) -> None:
    client = openai.OpenAI(base_url=f"{urls['gateway']}/v1", api_key="none")
    assert [each.id for each in client.models.list().data] == ["demo", "tiny-convnext-none", "small"]
    answers = {"small": "tiny-convnext-none"}.get(str(model), model or "demo")
    raw = client.embeddings.with_raw_response.create(
        model=model or client.models.list().data[0].id, input=[TEXT], encoding_format="float"
    )
    answer = raw.parse()
    assert answer.model == answers
    with Client(urls[answers]) as direct:
        np.testing.assert_allclose(answer.data[0].embedding, direct.embed_texts([TEXT]).features[0], atol=1e-4)
        assert raw.headers["x-model-fingerprint"] == direct.manifest().fingerprint


def test_both_are_ready(urls: dict[str, str]) -> None:
    health = httpx.get(f"{urls['gateway']}/health/ready", timeout=60)
    assert health.status_code == 200
    # A verdict that takes a while is not waited for where another one is there, and comes later.
    wait_for(lambda: statuses(urls["gateway"]) == ["ready", "ready"])


def statuses(gateway: str) -> list[str]:
    return [model["status"] for model in httpx.get(f"{gateway}/health/ready", timeout=60).json()["models"]]


def test_one_that_dies_is_away_alone_and_comes_back(launcher: Launcher, urls: dict[str, str]) -> None:
    process = psutil.Process(launcher.process.pid)
    process.suspend()  # which would start it again, and the client would wait for that
    try:
        launcher.tritons()[1].kill()
        gone = ask(urls["gateway"], "small", seconds=2)
        assert gone.status_code in (503, 504), gone.text
        assert ask(urls["gateway"], None).status_code == 200
        health = httpx.get(f"{urls['gateway']}/health/ready", timeout=60)
        assert health.status_code == 200
    finally:
        process.resume()
    assert "error:" in launcher.read_until("on tiny-convnext again")  # amid what the gateway says of errors
    assert launcher.ready_url() == urls["tiny-convnext-none"]
    wait_for(lambda: ask(urls["gateway"], "small").status_code == 200, seconds=60)


def test_ctrl_c_ends_all_and_leaves_nothing(launcher: Launcher, urls: dict[str, str]) -> None:
    family = [child.pid for child in psutil.Process(launcher.process.pid).children(recursive=True)]
    assert len(launcher.tritons()) == 2
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.process.stdout is not None
    shown = launcher.process.stdout.read()
    assert launcher.process.wait(60) == 0
    assert leftovers(family) == []
    assert files_left(launcher.process.pid) == []
    assert f"tiny-convnext-none  {urls['tiny-convnext-none']}" in shown
