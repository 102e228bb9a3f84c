"""What `docker compose … up --wait` gives with both files: a service that answers rightly, in hardened containers."""

import ast
import base64
import json
import sys

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.compose.conftest import Stack, docker, is_healthy, wait_for
from tests.compose_files import ROOT
from tests.reference import cosines, image_features, text_features
from tritonclip import Client
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.resources import MODEL_REPOSITORY

SCENES = sorted((ROOT / "samples/scenes").glob("*.jpg"))[:6]
TEXTS = ["a red triangle", "a blue star", "a small green circle"]


@pytest.fixture(scope="module")
def expected(demo_checkpoint: Checkpoint) -> NDArray[np.float32]:
    return image_features(demo_checkpoint, [Image.open(path).convert("RGB") for path in SCENES])


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_client_gets_open_clips_vectors(
    stack: Stack, transport: str, expected: NDArray[np.float32], demo_checkpoint: Checkpoint
) -> None:
    port = stack.grpc_port if transport == "grpc" else stack.http_port
    with Client(f"{transport}://127.0.0.1:{port}") as client:
        manifest = client.status().manifest
        assert manifest is not None
        assert manifest.variant == "demo"
        assert cosines(client.embed_images(SCENES).features, expected).min() > 0.999
        texts = client.embed_texts(TEXTS).features
    assert cosines(texts, text_features(demo_checkpoint, TEXTS)).min() > 0.999


def test_the_gateway_wants_a_key_and_then_answers_the_same(
    stack: Stack, key: str, expected: NDArray[np.float32]
) -> None:
    wait_for("ready", lambda: httpx.get(f"{stack.gateway_url}/health/ready", timeout=60).status_code == 200)
    assert httpx.get(f"{stack.gateway_url}/v1/models", timeout=60).status_code == 401
    client = openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key=key)
    images = [f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in SCENES]
    answer = client.embeddings.create(model="demo", input=images)
    features = np.array([item.embedding for item in answer.data], dtype=np.float32)
    assert cosines(features, expected).min() > 0.999


def test_a_model_that_is_there_is_not_exported_again(stack: Stack) -> None:
    assert "/models/demo is up to date" in stack.compose("run", "--rm", "-T", "export", *export_command(stack))


def export_command(stack: Stack) -> list[str]:
    (container,) = stack.containers("export")
    assert container["State"]["ExitCode"] == 0
    command: list[str] = container["Config"]["Cmd"]
    return command


def test_a_label_set_is_added_by_the_command_that_the_docs_name(stack: Stack, key: str) -> None:
    started = [container["State"]["StartedAt"] for container in stack.containers("triton")]
    said = stack.compose(
        "run", "--rm", "-T", "export", "labels", "scenes",
        "--labels", "samples/scenes/classes.txt", "--repository", "/models/demo", "--activate",
    )  # fmt: skip
    assert said.count("serves it") == len(started)
    body = {"image": base64.b64encode(SCENES[0].read_bytes()).decode(), "label_set": "scenes", "top_k": 1}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{stack.gateway_url}/v1/classify", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    best = str(answer.json()["data"][0]["labels"][0]["label"]) if "data" in answer.json() else answer.text
    assert all(word in best for word in SCENES[0].stem.split("-")[:2])
    wait_for("triton healthy", lambda: all(map(is_healthy, stack.containers("triton"))))
    assert [container["State"]["StartedAt"] for container in stack.containers("triton")] == started


COMPILED = """
import pathlib
print(sorted((str(path), path.stat().st_mtime_ns) for path in pathlib.Path("/compiled").rglob("*.nb?")))
"""


def test_an_index_is_made_and_served_as_the_docs_say(stack: Stack, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ("index", "add", "/indexes/photos", "/photos", "--url", "grpc://triton:8001")
    stack.compose(
        "run", "--rm", "-T", "--entrypoint", "tritonclip", "-v", f"{ROOT / 'samples' / 'scenes'}:/photos:ro",
        "gateway", *add,
    )  # fmt: skip
    monkeypatch.setenv("GATEWAY_OPTIONS", "--index photos=/indexes/photos")
    stack.compose("up", "--wait", "gateway")
    body = {"text": "a red triangle", "top_k": 1}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{stack.gateway_url}/v1/search", json=body, headers=headers, timeout=60)
    assert answer.json()["data"][0]["uri"] == "/photos/red-triangle-15.jpg"


def test_a_container_that_starts_again_compiles_nothing(stack: Stack) -> None:
    (before,) = stack.containers("triton")
    compiled = stack.python(before["Id"], COMPILED)
    assert "resample._resize" in compiled
    stack.compose("up", "--wait", "--force-recreate", "triton")
    (after,) = stack.containers("triton")
    assert after["Id"] != before["Id"]
    assert stack.python(after["Id"], COMPILED) == compiled


@pytest.mark.parametrize("service", ["triton", "gateway"])
def test_containers_run_as_nobody_special_on_a_read_only_system(stack: Stack, service: str) -> None:
    for container in stack.containers(service):
        assert stack.python(container["Id"], "import os; print(os.getuid())") == "1000"
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        failed = docker("exec", container["Id"], "touch", "/app/anything", check=False)
        assert "Read-only file system" in failed.stderr
        capabilities = stack.python(
            container["Id"], "print(open('/proc/1/status').read().split('CapEff:')[1].split()[0])"
        )
        assert int(capabilities, 16) == 0


IMAGES = ("tritonclip/export", "tritonclip/triton-cpu", "tritonclip/gateway", "tritonclip/load")


@pytest.mark.parametrize("image", IMAGES)
def test_images_hold_no_weights_and_are_not_roots(stack: Stack, image: str) -> None:
    tag = f"{image}:0.2.0"
    assert docker("image", "inspect", "-f", "{{.Config.User}}", tag).stdout.strip() == "1000:1000"
    pattern = r".*\.\(safetensors\|pt\|pth\|bin\|ckpt\)"
    find = ["find", "/app", "/models", "/hub", "-regex", pattern, "-size", "+100k"]
    found = docker("run", "--rm", "--entrypoint", find[0], tag, *find[1:], check=False).stdout
    assert not found.strip()
    size = int(docker("image", "inspect", "-f", "{{.Size}}", tag).stdout)
    print(f"{tag}: {size / 1e6:.0f} MB")


def imported_by_models() -> list[str]:
    """The packages that the Python models import beside the standard library and Triton's own module."""
    files = [*MODEL_REPOSITORY.glob("*/1/*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {path.stem for path in files} | {"triton_python_backend_utils"}
    return sorted({name.partition(".")[0] for name in found} - own - sys.stdlib_module_names)


def test_the_triton_image_can_import_what_its_models_import(stack: Stack) -> None:
    """Built on the base image that is here: NVIDIA's where it can be pulled, else a stand-in of Debian."""
    tag = docker("build", "--quiet", "-f", "deploy/docker/triton.Dockerfile", ".").stdout.strip()
    assert docker("image", "inspect", "-f", "{{.Config.User}}", tag).stdout.strip() == "1000:1000"
    hardened = ("run", "--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true")
    code = f"import {', '.join(imported_by_models())}; assert numpy.__version__ < '2'; print('imported')"
    assert {"PIL", "ftfy", "numba", "numpy", "simplejpeg", "tokenizers"} <= set(imported_by_models())
    assert docker(*hardened, "--entrypoint", "python3", tag, "-c", code).stdout.strip() == "imported"
    # What it starts gets keys that nobody sees, without a privilege; a program that shows both stands in for Triton.
    show = 'cat /proc/$$/cmdline | tr "\\0" " "; echo; echo "$@"'
    fake = ("--tmpfs=/fake:exec,mode=1777", "-e", "PATH=/fake:/usr/bin:/bin", "-e", "TRITONCLIP_ADMIN_KEY=s3cret")
    script = "cat > /fake/tritonserver && chmod +x /fake/tritonserver && exec /opt/tritonclip/start_triton --flag"
    done = docker(*hardened, "-i", *fake, "--entrypoint", "sh", tag, "-c", script, said=f"#!/bin/sh\n{show}\n")
    seen, got = done.stdout.splitlines()
    assert "s3cret" in got
    assert "--flag" in seen
    assert "s3cret" not in seen
    docker("image", "rm", tag)


def test_nobody_can_read_a_key_of_the_running_triton(stack: Stack) -> None:
    (container,) = stack.containers("triton")
    commands = docker("top", container["Id"], "-o", "pid,args").stdout
    assert "TRITONCLIP_HIDDEN_0" in commands
    assert "admin-key" not in commands


def test_both_files_are_valid_for_compose(stack: Stack) -> None:
    assert "nvidia" in docker("compose", "-f", "docker-compose.yml", "config").stdout
    traced = ("-f", "docker-compose.yml", "-f", "docker-compose.tracing.yml")
    services = json.loads(docker("compose", *traced, "config", "--format", "json").stdout)["services"]
    environments = {name: service.get("environment") or {} for name, service in services.items()}
    endpoints = {name: each.get("OTEL_EXPORTER_OTLP_ENDPOINT") for name, each in environments.items()}
    assert {name for name, endpoint in endpoints.items() if endpoint == "http://jaeger:4318"} == {"gateway", "triton"}
    assert "nvidia" not in stack.compose("config")
