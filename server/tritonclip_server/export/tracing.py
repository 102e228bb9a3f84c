"""TorchScript files from the modules of encoders.py, for the host that will run them.

The format is one function wide on purpose: TorchScript is deprecated upstream, and torch.export is to replace it here.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tritonclip_server.export.encoders import TextEncoder
from tritonclip_server.export.errors import ExportError, UnsupportedModel
from tritonclip_server.export.slices import InSlices

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_host(host: str) -> str:
    """`auto` is `gpu` where CUDA answers, else `cpu`."""
    return host if host != "auto" else ("gpu" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, host: str) -> str:
    """`auto` is fp16 for a GPU, bf16 for a CPU that computes in it (AVX512-BF16 or AMX), else fp32."""
    if precision != "auto":
        return precision
    if host == "gpu":
        return "fp16"
    flags = _cpu_flags()
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def resolve_device(device: str) -> torch.device:
    """The device that traces and verifies: `auto` is CUDA where it answers."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ExportError("--device cuda: no CUDA device answers on this machine; leave the option out, or give cpu")
    return torch.device(device if device != "auto" else ("cuda" if available else "cpu"))


@torch.inference_mode()
def trace(module: nn.Module, example: tuple[Tensor, ...], path: Path) -> None:
    """Trace a module in eval mode on its example inputs and save it; where it chooses by its input, its tower alone.

    What chooses, the lengths of texts or the slices of images, is compiled around the tower. Raises UnsupportedModel
    where that fails, or where the graph would be bound to one device.
    """
    compiled = _compiled(module, example) if isinstance(module, TextEncoder | InSlices) else _traced(module, example)
    bound = device_constants(compiled)
    if bound:
        raise UnsupportedModel(f"its graph creates tensors on a fixed device ({', '.join(sorted(bound))})")
    compiled.save(str(path))


def _compiled(encoder: TextEncoder | InSlices, example: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    tower = encoder.tower
    encoder.tower = _traced(tower, example)
    try:
        return torch.jit.script(encoder.eval())
    finally:
        encoder.tower = tower


def _traced(module: nn.Module, example: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    # The tracer's own check and warnings are left out: the file is compared with eager open_clip afterwards, at other
    # batch sizes and on real inputs. It looks at every property of a module, and those of transformers say something.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-any-return, no-untyped-call]
    except Exception as error:
        raise UnsupportedModel(f"its {type(module).__name__} cannot be traced: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def device_constants(module: torch.jit.ScriptModule) -> set[str]:
    """The devices written into a traced graph; an artifact that loads anywhere has none."""
    graph: Any = module.inlined_graph
    nodes = graph.findAllNodes("prim::Constant", recurse=True)
    return {
        str(node.s("value")) for node in nodes if str(node.output().type()) == "Device" and node.hasAttribute("value")
    }


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
