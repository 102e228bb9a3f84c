"""The arithmetic of a device: mixed precision on a GPU, float32 on a CPU."""

from contextlib import AbstractContextManager

import torch
from torch.amp.grad_scaler import GradScaler


def half_precision(device: torch.device) -> torch.dtype:
    """What a GPU computes in: bfloat16 where it has that, else float16, whose small gradients want a scaled loss."""
    native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision on a GPU; nothing on a CPU."""
    return torch.autocast(device.type, dtype=half_precision(device), enabled=device.type == "cuda")


def gradient_scaler(device: torch.device) -> GradScaler:
    """Scales a loss in float16, and hands on any other as it is."""
    return GradScaler(device.type, enabled=half_precision(device) is torch.float16)
