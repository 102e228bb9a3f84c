"""What a running service holds: resident memory, descriptors, shared memory, threads."""

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MIB = 2**20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep theirs


@dataclass(frozen=True)
class Usage:
    """Sums over Triton and its Python processes, and over the gateway. Pages that processes share count in each."""

    triton_mib: float  # resident
    gateway_mib: float
    shm_mib: float  # of /dev/shm, as far as it is this service's and in use
    triton_descriptors: int
    gateway_descriptors: int
    triton_threads: int
    gateway_threads: int

    def to_json(self) -> dict[str, float]:
        """By name, rounded."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


def measure(triton: psutil.Process, gateway: psutil.Process, shm_prefix: str) -> Usage:
    """Take the sums now; a process that ends meanwhile counts nothing."""
    family = [triton, *triton.children(recursive=True)]
    return Usage(
        triton_mib=_sum(process.memory_info().rss / MIB for process in _alive(family)),
        gateway_mib=_sum(process.memory_info().rss / MIB for process in _alive([gateway])),
        shm_mib=_sum(_blocks(path) / MIB for path in SHARED_MEMORY.glob(f"{shm_prefix}*")),
        triton_descriptors=int(_sum(process.num_fds() for process in _alive(family))),
        gateway_descriptors=int(_sum(process.num_fds() for process in _alive([gateway]))),
        triton_threads=int(_sum(process.num_threads() for process in _alive(family))),
        gateway_threads=int(_sum(process.num_threads() for process in _alive([gateway]))),
    )


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _sum(values: Iterable[float]) -> float:
    total = 0.0
    iterator = iter(values)
    while True:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            try:
                total += next(iterator)
            except StopIteration:
                return total


def _blocks(path: Path) -> int:
    """Bytes that a file really takes: regions are sparse."""
    return path.stat().st_blocks * 512
