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
    gateway_mib: float
    shm_mib: float  # of /dev/shm, as far as it is this service's and in use
    triton_descriptors: int
    gateway_descriptors: int
    triton_threads: int
    gateway_threads: int

    @property
    def mib(self) -> float:
        """Resident memory of all."""
        return self.triton_mib + self.gateway_mib

    def to_json(self) -> dict[str, float]:
        """By name, rounded."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


def measure(triton: psutil.Process, gateway: psutil.Process, shm_prefix: str) -> Usage:
    """Take the sums now; a process that ends meanwhile counts nothing."""
    triton_mib, triton_descriptors, triton_threads = _held_by([triton, *triton.children(recursive=True)])
    gateway_mib, gateway_descriptors, gateway_threads = _held_by([gateway])
    return Usage(
        triton_mib=triton_mib,
        gateway_mib=gateway_mib,
        shm_mib=_shared_mib(shm_prefix),
        triton_descriptors=triton_descriptors,
        gateway_descriptors=gateway_descriptors,
        triton_threads=triton_threads,
        gateway_threads=gateway_threads,
    )


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
