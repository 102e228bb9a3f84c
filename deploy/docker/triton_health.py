"""The health check of Triton's container: exit code 0 where the server is ready and all its processes live.

Triton keeps saying that it is ready when the process of a Python model has died, and answers INTERNAL in its stead. A
container engine restarts what ends, not what is unhealthy, so the check then ends the server (the container's first
process), and the engine starts it again. A server that is merely busy, or still loading, is left alone.

Runs in any Python 3 without packages: the container's own.
"""

import os
import signal
import sys
import urllib.request
from pathlib import Path

READY = "http://127.0.0.1:8000/v2/health/ready"
SECONDS = 5.0
STUB = "triton_python_b"  # triton_python_backend_stub, as the kernel cuts names
# How many there were when the server was last found whole; in the container's temporary file system, so of this start.
SEEN = Path("/tmp/tritonclip-model-processes")  # noqa: S108 - one user, one process at a time


def main() -> int:
    """Check once."""
    if not is_ready(READY):
        print("not ready")
        return 1
    if lost := lost_processes(1, SEEN, Path("/proc")):
        print(f"{lost} of Triton's model processes died: ending the server, which starts it again")
        os.kill(1, signal.SIGTERM)
        return 1
    return 0


def is_ready(url: str) -> bool:
    """Whether a server answers there that it is ready."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - READY above
            return bool(answer.status == 200)
    except OSError:  # not listening, too slow, or 400: not ready
        return False


def lost_processes(server: int, seen: Path, proc: Path) -> int:
    """How many of a ready server's model processes have died since `seen` was written; writes it the first time."""
    living = count_stubs(server, proc)
    if not seen.exists():
        seen.write_text(str(living))
    return int(seen.read_text()) - living


def count_stubs(server: int, proc: Path) -> int:
    """The living model processes of a server: its children of the stub's name that are not zombies."""
    count = 0
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            name, rest = (folder / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
        except OSError:  # it ended meanwhile
            continue
        state, parent = rest.split()[:2]
        count += name == STUB and state != "Z" and int(parent) == server
    return count


if __name__ == "__main__":
    sys.exit(main())
