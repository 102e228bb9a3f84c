"""The product as a user starts it, `tritonclip-server serve … --gateway-port`, in a process of its own, on free ports.

Restarts are then the launcher's own. Its processes are found from the one that was started here, so that nobody
else's are ever measured or killed.
"""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import psutil

from load.core.clients_asyncio import open_client
from load.core.process_stats import Usage, measure
from load.core.sender import AsyncClient

ROOT = Path(__file__).resolve().parents[2]
USUAL_DESCRIPTORS = 1024
START_SECONDS = 300.0
STOP_SECONDS = 90.0


class ServiceProblem(Exception):
    """The service did not start, or has ended."""


class Service:
    """A running launcher with its Triton and its gateway; a context manager.

    `environment` is set for all of its processes. They begin with the soft limit of descriptors that most systems give.
    """

    def __init__(self, repository: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self._repository = repository
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._said: list[str] = []
        self._changed = threading.Condition()

    def __enter__(self) -> "Service":
        self._folder = tempfile.TemporaryDirectory(prefix="tritonclip-service-")
        ports = [f"--{endpoint}-port=0" for endpoint in ("http", "grpc", "metrics", "gateway")]
        serve = ["serve", str(self._repository), "--log", f"{self._folder.name}/triton.log", *ports]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tritonclip_server", *serve],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("TRITONCLIP")} | self._environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the experiment, which then ends the service itself
            preexec_fn=_begin_with_few_descriptors,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.grpc_url, self.http_url = self.wait_for_line("ready after").split()[-2:]
            self.gateway_url = self.wait_for_line("gateway ready:").split()[-1]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def said(self) -> str:
        """What the launcher and the gateway have printed so far."""
        return "\n".join(self._said)

    @property
    def triton(self) -> psutil.Process:
        """Triton's process, which a restart replaces."""
        return self._child(lambda process: process.name() == "tritonserver", "Triton")

    @property
    def gateway(self) -> psutil.Process:
        """The gateway's process, which a restart replaces."""
        return self._child(lambda process: "gateway" in process.cmdline(), "the gateway")

    def stub(self, instance: str) -> psutil.Process:
        """The process of a model instance, such as `image_encoder_0_0`."""
        return next(process for process in self.triton.children() if instance in process.cmdline())

    @property
    def urls(self) -> dict[str, str]:
        """By protocol."""
        return {"grpc": self.grpc_url, "http": self.http_url, "gateway": self.gateway_url}

    def clients(self) -> list[AsyncClient]:
        """A new client for each protocol: they belong to one event loop."""
        return [open_client(name, url) for name, url in self.urls.items()]

    def usage(self) -> Usage:
        """What its processes hold just now."""
        return measure(self.triton, self.gateway, f"tritonclip-{self._pid}-")

    async def watch(self, every: float) -> list[tuple[float, Usage]]:
        """What is held, with the moment on `time.perf_counter`'s clock, each so many seconds until cancelled."""
        seen: list[tuple[float, Usage]] = []
        try:
            while True:
                usage = await asyncio.to_thread(self.usage)
                seen.append((time.perf_counter(), usage))
                await asyncio.sleep(every)
        except asyncio.CancelledError:
            return seen

    def wait_for_line(self, words: str, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line with these words, of those after the first `after` lines; ServiceProblem if none comes."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._said[after:]:
                    if words in line:
                        return line
                if not self._reader.is_alive() or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise ServiceProblem(f"{words!r} was never said:\n{self.said}")

    @property
    def _pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the service was not started")
        return self._process.pid

    def _child(self, wanted: Callable[[psutil.Process], bool], name: str) -> psutil.Process:
        for child in psutil.Process(self._pid).children():
            try:
                if child.status() != psutil.STATUS_ZOMBIE and wanted(child):
                    return child
            except psutil.NoSuchProcess:
                continue
        raise ServiceProblem(f"{name} is not running:\n{self.said}")

    def _read(self) -> None:
        assert self._process is not None  # noqa: S101 - it was started just before this thread
        assert self._process.stderr is not None  # noqa: S101 - it was opened as a pipe
        for line in self._process.stderr:
            with self._changed:
                self._said.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # its children end with it
                process.wait()
        self._reader.join(STOP_SECONDS)
        self._folder.cleanup()


def _begin_with_few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
