"""The health check of Triton's container: exit code 0 where the server is ready and all its processes live.

When the process of a Python model has died, Triton answers INTERNAL in its stead for ever. Before 26.04 it goes on
saying that it is ready, from 26.04 on it says that it is not, as it does while it loads; neither ends it. A container
engine restarts what ends, not what is unhealthy, so the check then ends the server, and the engine starts it again. It
looks for lost processes before it asks anything else, against those that this very server was ready with: one that is
merely busy, or still loading, is left alone. So is one whose model was loaded again, which has another process by then,
or was unloaded, which Triton knows.

Runs in any Python 3 without packages: the container's own.
"""

import http.client
import os
import re
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READY = "http://127.0.0.1:8000/v2/health/ready"
MODEL = "http://127.0.0.1:8000/v2/models/{}"
SECONDS = 5.0
SERVER = b"tritonserver"
STUB = b"triton_python_b"  # triton_python_backend_stub, as the kernel cuts names
INSTANCE = re.compile(r"(.+)_\d+_\d+")  # what a model process runs, among its arguments: image_encoder_0_1
# The server that was last ready, and what its model processes ran; in the container's temporary file system.
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
    running = instances(processes, server, PROC)
    seen = last_seen(server, SEEN)
    lost = sorted(name for name in seen - running if has_model(name))
    if server is not None and lost:
        print(f"Triton's processes of {', '.join(lost)} died: ending the server, to be started again")
        end(server, PROC)
        return 1
    if not is_ready(READY):
        print("not ready")
        return 1
    if server is not None and running != seen:
        remember(server, running, SEEN)
    return 0


def has_model(instance: str) -> bool:
    """Whether Triton believes to have the model that an instance is of, or does not say: not that it has none."""
    name = INSTANCE.fullmatch(instance)
    return name is None or status_of(MODEL.format(urllib.parse.quote(name[1]))) not in (400, 404)


def is_ready(url: str) -> bool:
    """Whether a server answers there that it is ready."""
    return status_of(url) == 200


def status_of(url: str) -> int | None:
    """The status of a server's answer; None without one. No proxy is asked: it is this machine."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, http.client.HTTPException):  # not listening, too slow, no HTTP
        return None


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


def instances(processes: list[Process], server: Process | None, proc: Path) -> set[str]:
    """What the living model processes of a server run, such as image_encoder_0_0."""
    if server is None:
        return set()
    stubs = (process for process in processes if process.parent == server.pid and process.name == STUB)
    return {name for process in stubs if (name := instance_of(process, proc)) is not None}


def instance_of(process: Process, proc: Path) -> str | None:
    """The last argument of a model process that is an instance's name; None where it has ended."""
    try:
        arguments = (proc / str(process.pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    named = [argument for argument in arguments if "/" not in argument and INSTANCE.fullmatch(argument)]
    return named[-1] if named else f"process {process.pid}"


def last_seen(server: Process | None, seen: Path) -> set[str]:
    """What the model processes ran when this very server was last ready; nothing where that was never seen."""
    try:
        pid, started, *names = seen.read_text().split("\n")
        same = server is not None and (int(pid), int(started)) == (server.pid, server.started)
    except (OSError, ValueError):  # not yet written, or not wholly
        return set()
    return {name for name in names if name} if same else set()


def remember(server: Process, running: set[str], seen: Path) -> None:
    """Keep for the next check what runs. Where that fails, only dead processes are not found."""
    try:
        seen.write_text("\n".join([str(server.pid), str(server.started), *sorted(running)]))
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
