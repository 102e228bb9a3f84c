"""What a running service holds: resident memory, descriptors, threads, shared memory."""

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MIB = 2**20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep theirs


@dataclass(frozen=True)
class Usage:
    """Sums over Triton and its Python processes, and the gateway. A page that processes share counts for each.

    Descriptors are open files less connections that are up: how many of those there are, clients decide.
    """

    triton_mib: float  # resident
    triton_descriptors: int
    triton_threads: int
    gateway_mib: float
    gateway_descriptors: int
    gateway_threads: int
    shm_mib: float  # of /dev/shm, as far as it is this service's and in use

    @property
    def mib(self) -> float:
        """Resident memory of all."""
        return self.triton_mib + self.gateway_mib

    def to_json(self) -> dict[str, float]:
        """By name, rounded."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


def measure(triton: psutil.Process, gateway: psutil.Process, shm_prefix: str) -> Usage:
    """Take the sums now; a process that ends meanwhile counts nothing."""
    whole_triton = [triton, *triton.children(recursive=True)]
    return Usage(*_held_by(whole_triton), *_held_by([gateway]), _shared_mib(shm_prefix))


def _held_by(processes: Iterable[psutil.Process]) -> tuple[float, int, int]:
    """Resident MiB, descriptors and threads of all."""
    mib, descriptors, threads = 0.0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too, by the time its memory is asked for
            mib += process.memory_info().rss / MIB
            up = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
            descriptors += process.num_fds() - len(up)
            threads += process.num_threads()
    return mib, descriptors, threads


def _shared_mib(prefix: str) -> float:
    """What the regions really take: they are sparse."""
    total = 0.0
    for path in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512 / MIB
    return total
