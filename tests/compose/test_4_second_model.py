"""docker-compose.second-cpu.yml up: a second model with a Triton of its own joins the first behind the gateway."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from tests.compose.conftest import FILES, Stack, docker, free_port_ranges, wait_for
from tests.compose_files import ROOT
from tests.reference import cosines, text_features
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.resources import DEMO

TEXTS = ["a red triangle", "a blue star"]
WEIGHTS = ROOT / "build" / "second-model"  # where the engine can read it: a test's own folder is closed to others
SECOND = ("docker-compose.second.yml", "docker-compose.second-cpu.yml", "tests/compose/second-model.yml")


@pytest.fixture(scope="module")
def weights() -> Iterator[Path]:
    """The demo checkpoint with its text vectors backwards."""
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    shutil.copytree(DEMO, WEIGHTS)
    (path,) = WEIGHTS.glob("*.safetensors")
    state = load_file(path)
    state["text_projection"] = state["text_projection"].flip(1).contiguous()
    path.unlink()
    save_file(state, path)
    path.chmod(0o644)
    yield WEIGHTS
    shutil.rmtree(WEIGHTS)


@pytest.fixture(scope="module")
def both(stack: Stack, weights: Path) -> Iterator[tuple[str, ...]]:
    """The stack with the second model; the arguments by which Compose knows it."""
    ports = free_port_ranges((1, 1, 1))
    settings = {f"SECOND_{kind}_PORT": str(port) for kind, port in zip(("HTTP", "GRPC", "METRICS"), ports, strict=True)}
    os.environ |= {"SECOND_VARIANT": "backwards", **settings}
    files = ("compose", "-p", stack.name, *FILES, *(part for file in SECOND for part in ("-f", file)))
    docker(*files, "up", "--wait")
    yield files
    for name in ("SECOND_VARIANT", *settings):
        del os.environ[name]


def ask(stack: Stack, key: str, model: str | None, texts: list[str] = TEXTS) -> httpx.Response:
    asked = {"input": texts} | ({"model": model} if model else {})
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{stack.gateway_url}/v1/embeddings", json=asked, headers=headers, timeout=60)


def vectors(answer: httpx.Response) -> NDArray[np.float32]:
    return np.array([item["embedding"] for item in answer.json()["data"]], dtype=np.float32)


def test_each_answers_as_its_own_weights_do(
    stack: Stack, both: tuple[str, ...], key: str, demo_checkpoint: Checkpoint
) -> None:
    wait_for("ready", lambda: httpx.get(f"{stack.gateway_url}/health/ready", timeout=60).status_code == 200)
    expected = text_features(demo_checkpoint, TEXTS)
    for model in (None, "demo"):
        assert cosines(vectors(ask(stack, key, model)), expected).min() > 0.999
    assert cosines(vectors(ask(stack, key, "backwards")), np.flip(expected, axis=1)).min() > 0.999
    assert ask(stack, key, "no-such").status_code == 404


def test_one_that_is_down_is_away_alone(stack: Stack, both: tuple[str, ...], key: str) -> None:
    docker(*both, "stop", "--timeout", "1", "triton-second")
    down = ask(stack, key, "backwards", ["a text that no cache has"])
    assert (down.status_code, down.json()["error"]["code"]) == (503, "engine_unavailable")
    assert ask(stack, key, "demo").status_code == 200
