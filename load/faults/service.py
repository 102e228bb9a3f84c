"""The product as a user starts it, `tritonclip-server serve … --gateway-port`, in a process of its own, on free ports.

Restarts are then the launcher's own. Its processes are found from the one that was started here, so that nobody
else's are ever measured or killed.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from load.core.process_stats import Usage, measure
from load.core.triton_stats import Counters, Statistics

ROOT = Path(__file__).resolve().parents[2]
USUAL_DESCRIPTORS = 1024
START_SECONDS = 300.0
STOP_SECONDS = 90.0
DYING_SECONDS = 1.0  # from the signal until a process is gone, at most
LOOK_SECONDS = 0.05  # between two looks at what a program has printed


class ServiceProblem(Exception):
    """A program did not start, or has ended."""


class Program:
    """A command of the product that is running; `output` is the file of what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._output = output

    @property
    def said(self) -> list[str]:
        """The lines that it has printed so far."""
        whole, _, _ = self._output.read_text(encoding="utf-8", errors="replace").rpartition("\n")
        return whole.splitlines()

    def wait_for_line(self, words: str, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line with these words, of those after the first `after` lines; ServiceProblem if none comes."""
        deadline = time.monotonic() + seconds
        while True:
            last_look = self._process.poll() is not None or time.monotonic() > deadline
            for line in self.said[after:]:
                if words in line:
                    return line
            if last_look:
                raise ServiceProblem(f"{words!r} was never said:\n" + "\n".join(self.said))
            time.sleep(LOOK_SECONDS)


@contextmanager
def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """`tritonclip-server` with these arguments, with the soft limit of descriptors that most systems give."""
    with tempfile.TemporaryDirectory(prefix="tritonclip-faults-") as folder:
        output = Path(folder) / "output"
        with output.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tritonclip_server", *arguments],
                cwd=ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("TRITONCLIP")} | dict(environment or {}),
                stderr=file,
                start_new_session=True,  # Ctrl-C is for the experiment, which then ends the program itself
                preexec_fn=_begin_with_few_descriptors,
            )
        try:
            yield Program(process, output)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # its children end with it
                process.wait()


class Service:
    """A running launcher with its Triton and its gateway, and their URLs by protocol."""

    def __init__(self, launcher: Program, urls: Mapping[str, str]) -> None:
        self.launcher = launcher
        self.urls = urls

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

    def usage(self) -> Usage:
        """What its processes hold just now."""
        return measure(self.triton, self.gateway, f"tritonclip-{self.launcher.pid}-")

    def counters(self) -> dict[str, Counters]:
        """What Triton has counted, by model."""
        with closing(Statistics(self.urls["grpc"])) as statistics:
            return statistics.read()

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

    def _child(self, wanted: Callable[[psutil.Process], bool], name: str) -> psutil.Process:
        for child in psutil.Process(self.launcher.pid).children():
            try:
                if child.status() != psutil.STATUS_ZOMBIE and wanted(child):
                    return child
            except psutil.NoSuchProcess:
                continue
        raise ServiceProblem(f"{name} is not running:\n" + "\n".join(self.launcher.said))


class CrashWatch:
    """Tells whether Triton has crashed since, as old ones do when calls are cancelled (docs/load.md, limits found)."""

    def __init__(self, service: Service) -> None:
        self._launcher = service.launcher
        self._triton = service.triton
        self._lines = len(service.launcher.said)

    async def back_after_crash(self) -> bool:
        """Whether the process has ended; if so, wait until the launcher's next one is ready."""
        await asyncio.sleep(DYING_SECONDS)
        if self._triton.is_running() and self._triton.status() != psutil.STATUS_ZOMBIE:
            return False
        await asyncio.to_thread(self._launcher.wait_for_line, "ready after", self._lines)
        return True


@contextmanager
def serve(repository: Path) -> Iterator[Service]:
    """The service on a repository, once it is ready."""
    with tempfile.TemporaryDirectory(prefix="tritonclip-triton-") as folder:
        ports = [f"--{endpoint}-port=0" for endpoint in ("http", "grpc", "metrics", "gateway")]
        with run("serve", str(repository), "--log", f"{folder}/triton.log", *ports) as launcher:
            grpc_url, http_url = launcher.wait_for_line("ready after").split()[-2:]
            gateway_url = launcher.wait_for_line("gateway ready:").split()[-1]
            yield Service(launcher, {"grpc": grpc_url, "http": http_url, "gateway": gateway_url})


def _begin_with_few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
