"""Other people's clients, run unchanged against a real server: what each of them got, by name.

A program is a file in python/ or node/. It says `http://localhost:8080` and `tclip-KEY`, as docs/clients.md does; a
copy of it in build/clients says where the gateway of this run is and what its key is, and runs there with
build/clients' interpreter. A program without a key asks a second gateway, which has none.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_server import GatewayProcess
from tritonclip_server.embedded.server import Server
from tritonclip_server.gateway.access.keys import KeyFile

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CLIENTS = ROOT / "build" / "clients"
PROGRAMS = sorted(
    path for pattern in ("python/*.py", "node/*.mjs") for path in HERE.glob(pattern) if path.stem != "inputs"
)
# Without these some clients ask the internet for prices of models or a tokenizer's file, or report their use.
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "MEM0_TELEMETRY": "False",
}
SECONDS = 600  # for one program: a slow machine takes a minute to import some of them


@dataclass(frozen=True)
class Addresses:
    """Where a program finds what it asks."""

    keyed: str
    keyless: str
    key: str
    triton_grpc: str
    triton_http: str

    def put_into(self, source: str) -> str:
        """Make a program, or lines of the docs, ask the servers of this run."""
        gateway = self.keyed if "tclip-KEY" in source else self.keyless
        for documented, actual in (
            ("http://localhost:8080", gateway),
            ("tclip-KEY", self.key),
            ("localhost:8001", self.triton_grpc.removeprefix("grpc://")),
            ("localhost:8000", self.triton_http.removeprefix("http://")),
        ):
            source = source.replace(documented, actual)
        return source


@pytest.fixture(scope="session")
def addresses(demo_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A gateway with a key and one without before the same Triton; to both, any model's name is the deployed one."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    _, key = KeyFile(keys).create("programs")
    options = ("--url", demo_server.grpc_url, "--alias", "*")
    keyed, keyless = GatewayProcess(*options, "--keys", str(keys)), GatewayProcess(*options)
    yield Addresses(keyed.url, keyless.url, key, demo_server.grpc_url, demo_server.http_url)
    keyed.stop()
    keyless.stop()


@pytest.fixture(scope="session")
def answers(request: pytest.FixtureRequest, addresses: Addresses) -> Iterator[Mapping[Path, Future[Any]]]:
    """What each selected program wrote, case by case; as many run at once as there are cores."""
    wanted = {item.callspec.params["program"] for item in request.session.items if hasattr(item, "callspec")}
    work = CLIENTS / "run"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for path in (*HERE.glob("python/inputs.py"), *HERE.glob("node/inputs.mjs"), *wanted):
        (work / path.name).write_text(addresses.put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {path: pool.submit(_run, work / path.name) for path in sorted(wanted)}


@pytest.fixture
def answer(answers: Mapping[Path, Future[Any]]) -> Callable[[Path], dict[str, dict[str, Any]]]:
    """What a program wrote: for each case its `result` or `error`, and its `seconds`."""
    return lambda program: answers[program].result()


def _run(program: Path) -> dict[str, dict[str, Any]]:
    """Run a program in the clients' environment; what it printed is shown where it wrote nothing."""
    interpreter = "node" if program.suffix == ".mjs" else str(CLIENTS / "python" / "bin" / "python")
    wrote = program.with_suffix(".json")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRITONCLIP"))}
    done = subprocess.run(
        [interpreter, str(program)],
        cwd=ROOT,
        env=ours | OFFLINE | _tokenizer() | {"ANSWER": str(wrote), "INPUTS": str(HERE / "inputs.json")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert wrote.exists(), f"{program.name} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    said: dict[str, dict[str, Any]] = json.loads(wrote.read_text(encoding="utf-8"))
    return said


def _tokenizer() -> dict[str, str]:
    """Where tiktoken finds cl100k_base without asking the internet: LiteLLM ships the file."""
    found = next(CLIENTS.glob("python/lib/*/site-packages/litellm/litellm_core_utils/tokenizers"))
    return {"TIKTOKEN_CACHE_DIR": str(found)}
