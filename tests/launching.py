"""`tritonclip-server serve` in a process of its own, and what can be left of it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]


class Launcher:
    """`tritonclip-server serve` in a process of its own, and what it says."""

    def __init__(
        self,
        repository: Path,
        folder: Path,
        *arguments: str,
        others: Sequence[Path] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        # Whoever runs the tests may ignore signals, as nohup and `&` have it, and what a process ignores is inherited.
        command = [
            "env",
            "--default-signal=HUP,INT",
            sys.executable,
            "-m",
            "tritonclip_server",
            "serve",
            *map(str, (repository, *others)),
            "--log",
            str(folder / "triton.log"),
            *arguments,
        ]
        for endpoint in ("http", "grpc", "metrics"):
            command += [f"--{endpoint}-port", "0"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate()

    def read_until(self, words: str) -> str:
        """The first line of its stderr with these words."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never said:\n{''.join(lines)}")

    def ready_url(self) -> str:
        return self.read_until("ready after").split()[-2]

    def triton(self) -> psutil.Process:
        (child,) = self.tritons()
        return child

    def tritons(self) -> list[psutil.Process]:
        """The servers, in the order in which they were started."""
        found = [c for c in psutil.Process(self.process.pid).children() if c.name() == "tritonserver"]
        return sorted(found, key=lambda child: child.create_time())


@pytest.fixture
def launcher(tiny_repository: Path, tmp_path: Path) -> Iterator[Launcher]:
    with Launcher(tiny_repository, tmp_path) as running:
        yield running


def leftovers(pids: list[int]) -> list[int]:
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it may end between two looks, too
        return False


def shared_memory(launcher_pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"tritonclip-{launcher_pid}-*"))


def files_left(launcher_pid: int) -> list[Path]:
    """Of its folders in TMPDIR and its shared memory."""
    folders = Path(tempfile.gettempdir()).glob(f"tritonclip-backends-{launcher_pid}-*")
    return [*folders, *shared_memory(launcher_pid)]


def family_of(launcher: Launcher, least: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while len(family := psutil.Process(launcher.process.pid).children(recursive=True)) < least:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return list(family)
