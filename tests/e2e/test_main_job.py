"""`make up` as a newcomer types it, answers that a person can check, and every command of the README against it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.programs_needed import find_program
from tests.reference import cosines, image_features, text_features
from tritonclip import Client
from tritonclip_server.export.checkpoint import Checkpoint

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCENES = ROOT / "samples" / "scenes"
ANY_PORTS = "--http-port 0 --grpc-port 0 --metrics-port 0 --gateway-port 0"


@dataclass
class Running:
    """`make up` with what it printed until it was serving."""

    process: subprocess.Popen[str]
    output: str

    @property
    def urls(self) -> tuple[str, str]:
        found = re.search(r"(grpc://\S+)\s+(http://\S+)", self.output)
        assert found is not None
        return found[1], found[2]

    @property
    def gateway(self) -> str:
        found = re.search(r"gateway ready: (http://\S+)", self.output)
        assert found is not None
        return found[1]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    process = subprocess.Popen(
        ["make", "up", f"SERVE_FLAGS={ANY_PORTS}", "GATEWAY_FLAGS=--alias 'nvidia/nvclip' --max-texts 3000"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("TRITONCLIP")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C stops" in line:
            break
    started = Running(process, "".join(lines))
    yield started
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    process.communicate()


def test_it_ends_its_start_with_scores_that_are_open_clips(running: Running, demo_checkpoint: Checkpoint) -> None:
    assert "RANDOM WEIGHTS" not in running.output
    sentences = ["a red triangle", "a red square", "a blue triangle"]
    image = Image.open(SCENES / "red-triangle-15.jpg").convert("RGB")
    expected = (image_features(demo_checkpoint, [image]) @ text_features(demo_checkpoint, sentences).T)[0]
    assert expected.argmax() == 0
    for sentence, cosine in zip(sentences, expected, strict=True):
        found = re.search(rf"^ *(-?[\d.]+) +(-?[\d.]+) +([\d.]+)  {sentence}$", running.output, re.MULTILINE)
        assert found is not None, running.output
        assert float(found[1]) == pytest.approx(cosine, abs=0.02)
        assert float(found[2]) == pytest.approx(demo_checkpoint.logit_scale * float(found[1]), abs=0.06)


def test_options_of_the_gateway_reach_it(running: Running) -> None:
    model = httpx.get(f"{running.gateway}/v1/models/nvidia%2Fnvclip", trust_env=False, timeout=60).json()
    assert model["root"] == "demo"
    many = {"model": "nvidia/nvclip", "input": ["a red triangle"] * 3001}
    answer = httpx.post(f"{running.gateway}/v1/embeddings", json=many, trust_env=False, timeout=60)
    assert "3001 texts, more than the limit of 3000" in answer.json()["error"]["message"]


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language ("" for plain ones)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def commands(text: str, *starts: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(starts)]


def run(command: str, running: Running) -> subprocess.CompletedProcess[bytes]:
    """A documented command as a shell runs it, with this server in place of the default ports."""
    grpc_url, http_url = running.urls
    command = command.replace("localhost:8000", http_url.removeprefix("http://"))
    if command.startswith("curl "):
        find_program("curl")
    command = command.replace("localhost:8080", running.gateway.removeprefix("http://"))
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | {"TRITONCLIP_URL": grpc_url},
        capture_output=True,
        check=False,
        timeout=300,
    )


README_COMMANDS = commands("\n".join(blocks("")), ".venv/bin/", "curl")


@pytest.mark.parametrize("command", README_COMMANDS)
def test_every_command_of_the_readme_runs(command: str, running: Running) -> None:
    if "finetune" in command:
        shutil.rmtree(ROOT / "build" / "tuned", ignore_errors=True)  # of an earlier run: it goes over no model
    done = run(command, running)
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(rb'^error|"error"', done.stdout, re.MULTILINE) is None


def test_the_readme_has_the_commands_this_file_believes() -> None:
    assert {shlex.split(command)[0] for command in README_COMMANDS} == {
        ".venv/bin/python", ".venv/bin/tritonclip", ".venv/bin/tritonclip-server", "curl",
    }  # fmt: skip
    assert len(README_COMMANDS) >= 7
    for target in commands("\n".join(blocks("")), "make "):
        name = target.split()[1]
        assert subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_curl_gets_the_clients_vector(running: Running) -> None:
    (command,) = [command for command in README_COMMANDS if "embed_image" in command]
    assert run(command, running).returncode == 0
    vector = np.fromfile(ROOT / "build" / "scene.f32", dtype="<f4")
    with Client(running.urls[0]) as client:
        expected = client.embed_images([SCENES / "red-triangle-15.jpg"]).features
    assert cosines(vector[None], expected)[0] >= 0.9999


def test_the_readmes_python_runs(running: Running) -> None:
    (block,) = blocks("python")
    code = block.replace("grpc://localhost:8001", running.urls[0])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[[") == 2


def test_what_it_says_to_try_next_works(running: Running) -> None:
    hints = commands(running.output, ".venv/bin/tritonclip ", "tritonclip ")  # by its name where a shell knows it
    assert len(hints) == 5
    answers = [run(hint, running).stdout.decode() for hint in hints]
    assert all(answers)
    # The first two can be checked by eye: every line has the colour and the shape that are in the file's name.
    lines = [line.split() for line in answers[0].splitlines()[1:]]
    assert len(lines) == len(list(SCENES.glob("*.jpg")))
    assert all(Path(path).name.startswith(f"{colour}-{shape}-") for path, colour, shape, *_ in lines)
    assert answers[1].splitlines()[1].split()[1:4] == ["a", "blue", "star"]
    assert all(Path(line.split()[0]).name.startswith(line.split()[1]) for line in answers[2].splitlines()[1:])
    assert "/red-triangle-15.jpg " in answers[3].splitlines()[1]


def test_the_gateway_serves_an_index_of_the_samples(running: Running) -> None:
    body = {"index": "samples", "text": "a blue star", "top_k": 1}
    found = httpx.post(f"{running.gateway}/v1/search", json=body, trust_env=False, timeout=60).json()
    assert found["rows"] == len([*SCENES.glob("*.jpg"), *SCENES.parent.glob("photos/*.jpg")])
    assert Path(found["data"][0]["uri"]).name == "blue-star-04.jpg"


def test_the_gateway_answers_as_the_greeting_says(running: Running) -> None:
    (hint,) = commands(running.output, "curl")
    answer = json.loads(run(hint, running).stdout)
    printed = [float(line.split()[0]) for line in running.output.splitlines() if re.match(r"^ +-?\d\.\d{3} ", line)]
    assert answer["cosine"][0] == pytest.approx(printed, abs=0.01)
    assert f"The page to play with: {running.gateway}" in running.output


def test_status_says_what_is_deployed(running: Running) -> None:
    done = run(".venv/bin/tritonclip status --format json", running)
    status = json.loads(done.stdout)
    assert status["manifest"]["variant"] == "demo"
    assert status["manifest"]["random_weights"] is False
    assert status["models"]["classify_scenes"] is True


def test_ctrl_c_ends_it_and_leaves_nothing(running: Running) -> None:
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert any(process.name() == "tritonserver" for process in family)
    os.killpg(running.process.pid, signal.SIGINT)  # what a terminal does: the whole foreground group gets it
    running.process.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
