"""Debian's Prometheus and promtool for tests: on PATH, or where scripts/setup-tests unpacks them."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.programs_needed import find_program
from tests.promql import ALERTS, CONFIG
from tritonclip_server.embedded.server import LOOPBACK, find_port

ROOT = Path(__file__).resolve().parents[1]
STARTUP_SECONDS = 60


def promtool(*arguments: str | Path) -> None:
    """Run promtool; an AssertionError has what it said if it found a fault."""
    done = subprocess.run([find_program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"promtool {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"


class Prometheus:
    """A Prometheus with the committed configuration and alerts that scrapes the given `host:port` of each job.

    Only where the targets come from is changed, from DNS to a fixed list, and how often they are scraped: each second.
    """

    def __init__(self, targets: dict[str, list[str]], folder: Path) -> None:
        port = find_port(LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{port}"
        self._http = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)
        self._log = folder / "prometheus.log"
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(_with_targets(targets | {"prometheus": [f"{LOOPBACK}:{port}"]})))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    find_program("prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address={LOOPBACK}:{port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Prometheus did not start:\n{self._log.read_text()}")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression that gives a vector, now; an AssertionError says why it is refused."""
        answer = self.get("/api/v1/query", query=expression)
        assert answer["status"] == "success", f"{expression}\n{answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """An answer of its API."""
        answer: dict[str, Any] = self._http.get(path, params=parameters).json()
        return answer

    def stop(self) -> None:
        """End it."""
        self._http.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _with_targets(targets: dict[str, list[str]]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ALERTS)]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    return config
