"""The gateway as a process: how it is started, drained, guarded by keys and kept alive by the launcher."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import openai
import psutil

from tests.gateway_server import ROOT, GatewayProcess
from tests.images import data_url
from tests.reference import PHOTOS
from tritonclip_server.embedded.server import Server


def test_sigterm_drains(server: Server) -> None:
    """What has begun is answered; then the process ends by itself, without a word of trouble."""
    running = GatewayProcess("--url", server.grpc_url)
    body = json.dumps({"images": [data_url(path.read_bytes()) for path in PHOTOS] * 4, "texts": ["a", "b"]})
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(
            httpx.post(
                f"{running.url}/v1/similarity", content=body, headers={"content-type": "application/json"}, timeout=60
            )
        )

    asking = threading.Thread(target=ask)
    asking.start()
    while 'items_in_flight{model=""} 0.0' in httpx.get(f"{running.url}/metrics", timeout=60).text and asking.is_alive():
        pass
    running.stop()
    asking.join(60)
    assert answers[0].status_code == 200
    assert running.process.returncode == 0
    assert "Traceback" not in running.said


def test_a_gateway_outlives_a_server_that_is_away(tmp_path: Path) -> None:
    running = GatewayProcess("--url", "grpc://127.0.0.1:1")
    try:
        assert "whoever is on this machine" in running.said
        assert httpx.get(f"{running.url}/health/live", timeout=60).status_code == 200
        assert httpx.get(f"{running.url}/health/ready", timeout=60).status_code == 503
        answer = httpx.post(f"{running.url}/v1/embeddings", json={"input": "a"}, timeout=60)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "engine_unavailable"
    finally:
        running.stop()


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tritonclip_server", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_keys_only_loopback_is_served() -> None:
    done = command("gateway", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "without --keys the gateway serves loopback alone" in done.stderr


def test_keys_by_the_command(server: Server, tmp_path: Path) -> None:
    """Made, used, listed and revoked, while a gateway runs that was started before there was any."""
    file = tmp_path / "keys.json"
    running = GatewayProcess("--url", server.grpc_url, "--keys", str(file))
    try:
        assert "no keys yet, so every request is refused" in running.said
        assert openai_status(running.url, "none") == 401
        made = command("keys", "create", "alice", "--requests-per-minute", "100", TRITONCLIP_KEYS=str(file))
        secret = made.stdout.strip()
        listed = command("keys", "list", "--keys", str(file)).stdout
        assert "alice" in listed
        assert "100 requests" in listed
        assert secret not in listed

        def status(key: str) -> int:
            return openai_status(running.url, key)

        assert status("wrong") == 401
        assert status(secret) == 200
        bobs = command("keys", "create", "bob", "--keys", str(file)).stdout.strip()
        assert status(bobs) == 200
        assert command("keys", "revoke", listed.split()[0], "--keys", str(file)).returncode == 0
        assert status(secret) == 401
        assert status(bobs) == 200
    finally:
        running.stop()
    assert command("keys", "revoke", "nobody", "--keys", str(file)).returncode == 1
    assert "no folder" in command("gateway", "--keys", str(tmp_path / "none" / "keys.json"), "--port", "0").stderr


def openai_status(url: str, key: str) -> int:
    try:
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0).embeddings.create(model="", input="a")
    except openai.AuthenticationError:
        return 401
    except openai.NotFoundError:
        return 200  # let in: the model's name alone was wrong
    return 200


def test_the_launcher_starts_the_gateway_again_and_ends_it(tiny_repository: Path, tmp_path: Path) -> None:
    options = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "gateway")]
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tritonclip_server",
            "serve",
            str(tiny_repository),
            "--log",
            str(tmp_path / "log"),
            *options,
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launcher.stderr is not None

    def said(words: str) -> str:
        assert launcher.stderr is not None
        return next(line for line in launcher.stderr if words in line)

    try:
        url = said("gateway ready").split()[-1]
        assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
        (process,) = [child for child in psutil.Process(launcher.pid).children() if "gateway" in child.cmdline()]
        process.kill()
        assert "starting it again" in said("error:")
        assert said("gateway ready").split()[-1] == url
        assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
        family = psutil.Process(launcher.pid).children(recursive=True)
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
