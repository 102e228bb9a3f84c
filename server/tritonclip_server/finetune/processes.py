"""The processes of one run: one alone, or as many as torchrun started, each with a GPU of its own or none.

torchrun tells each process its place in environment variables. Everything that is done once (evaluation, files, lines
on the terminal) is the first process's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from tritonclip_server.export.tracing import resolve_device

MOST_WORKERS = 8  # that decode images, for each process


@dataclass(frozen=True)
class Processes:
    """This process's place among so many, and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether what is done once is this process's to do."""
        return self.rank == 0

    @property
    def workers(self) -> int:
        """How many processes decode images for this one."""
        return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) // self.count))

    def merged(self, part: dict[str, str]) -> dict[str, str]:
        """The entries that all processes have found together."""
        if self.count == 1:
            return part
        parts: list[dict[str, str]] = [{}] * self.count
        distributed.all_gather_object(parts, part)
        return {name: reason for found in parts for name, reason in found.items()}


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, over NCCL on GPUs and gloo on CPUs; alone where it started none.

    `device` is auto, cpu or cuda. Raises ExportError where no CUDA device answers.
    """
    chosen = resolve_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, chosen)
    finally:
        distributed.destroy_process_group()
