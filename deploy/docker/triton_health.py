"""The health check of Triton's container: exit code 0 where the server is ready and all its processes live.

When the process of a Python model has died, Triton answers INTERNAL in its stead for ever. Before 26.04 it goes on
saying that it is ready, from 26.04 on it says that it is not, as it does while it loads; neither ends it. A container
engine restarts what ends, not what is unhealthy, so the check then ends the server, and the engine starts it again. It
looks for lost processes before it asks anything, against the most that this very server was ready with: one that is
merely busy, or still loading, is left alone.

Runs in any Python 3 without packages: the container's own.
"""

import http.client
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READY = "http://127.0.0.1:8000/v2/health/ready"
SECONDS = 5.0
SERVER = b"tritonserver"
STUB = b"triton_python_b"  # triton_python_backend_stub, as the kernel cuts names
# The server that was last ready, and how many model processes it had; in the container's temporary file system.
SEEN = Path("/tmp/tritonclip-model-processes")  # noqa: S108 - one user, one process at a time
PROC = Path("/proc")
FIRST_PROCESS = 1  # of a container: Triton's starter, or an init process above it


class Process(NamedTuple):
    """A living process. Two of the same id differ in when they started, in ticks since the machine did."""

    pid: int
    started: int
    parent: int
    name: bytes


def main() -> int:
    """Check once, and end a server that has lost a process."""
    processes = list(living(PROC))
    server = find_server(processes, FIRST_PROCESS)
    stubs = count_stubs(processes, server)
    lost = most_seen(server, SEEN) - stubs
    if server is not None and lost > 0:
        print(f"{lost} of Triton's model processes died: ending the server, to be started again")
        end(server, PROC)
        return 1
    if not is_ready(READY):
        print("not ready")
        return 1
    if server is not None and lost < 0:
        remember(server, stubs, SEEN)
    return 0


def is_ready(url: str) -> bool:
    """Whether a server answers there that it is ready. No proxy is asked: it is this machine."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # not listening, too slow, an error status, no HTTP
        return False


def living(proc: Path) -> Iterator[Process]:
    """All processes that can be seen and are not zombies."""
    try:
        entries = os.listdir(proc)
    except OSError:
        return
    for entry in entries:
        if entry.isdecimal():
            try:
                process = read_process(proc, int(entry))
            except (OSError, ValueError, IndexError):  # it ended meanwhile, or is not for this user to see
                continue
            if process is not None:
                yield process


def read_process(proc: Path, pid: int) -> Process | None:
    """One process; None for a zombie. Its name stands in brackets and may hold anything, brackets too."""
    head, _, rest = (proc / str(pid) / "stat").read_bytes().rpartition(b") ")
    fields = rest.split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, started=int(fields[19]), parent=int(fields[1]), name=head.partition(b"(")[2])


def find_server(processes: list[Process], first: int) -> Process | None:
    """Triton's process: `first` itself, or the nearest below it."""
    generation, known = [process for process in processes if process.pid == first], {first}
    while generation:
        for process in generation:
            if process.name == SERVER:
                return process
        parents = {process.pid for process in generation}
        generation = [process for process in processes if process.parent in parents and process.pid not in known]
        known |= {process.pid for process in generation}
    return None


def count_stubs(processes: list[Process], server: Process | None) -> int:
    """The living model processes of a server."""
    return sum(server is not None and process.parent == server.pid and process.name == STUB for process in processes)


def most_seen(server: Process | None, seen: Path) -> int:
    """The most model processes that this very server was ready with; 0 where that was never seen."""
    try:
        pid, started, stubs = (int(word) for word in seen.read_bytes().split())
    except (OSError, ValueError):  # not yet written, or not wholly
        return 0
    return stubs if server is not None and (pid, started) == (server.pid, server.started) else 0


def remember(server: Process, stubs: int, seen: Path) -> None:
    """Keep for the next check how many there are. Where that fails, only dead processes are not found."""
    try:
        seen.write_text(f"{server.pid} {server.started} {stubs}\n")
    except OSError as error:
        print(f"cannot remember the model processes: {error}")


def end(server: Process, proc: Path) -> None:
    """Ask the server to finish what it has begun and end, unless it has ended meanwhile."""
    try:
        if read_process(proc, server.pid) == server:
            os.kill(server.pid, signal.SIGTERM)
    except (OSError, ValueError, IndexError) as error:
        print(f"cannot end process {server.pid}: {error}")


if __name__ == "__main__":
    sys.exit(main())
