"""Files of trained heads, as `tritonclip train` writes them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

FORMAT = "tritonclip-head-1"


def write_head(
    folder: Path,
    name: str,
    labels: Sequence[str],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    /,
    **entries: str,
) -> Path:
    """Write head.safetensors into a folder, which is made; `entries` are its metadata, the fingerprint among them."""
    metadata = {
        "format": FORMAT,
        "name": name,
        "labels": json.dumps(list(labels)),
        "temperature": "1.0",
        "threshold": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": weight, "bias": bias}, folder / "head.safetensors", metadata | {"made": "{}"} | entries)
    return folder


def random_head(folder: Path, name: str, labels: Sequence[str], width: int, seed: int, /, **entries: str) -> Path:
    """The same with values drawn at random, as spread as those of a trained one."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(len(labels), width)).astype(np.float32) * 20
    return write_head(folder, name, labels, weight, random.normal(size=len(labels)).astype(np.float32), **entries)


def expected_logits(folder: Path, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a head makes of features [B, D], by numpy in fp64: logits [B, C] over its temperature."""
    with safe_open(folder / "head.safetensors", framework="numpy") as file:
        weight, bias = (file.get_tensor(key).astype(np.float64) for key in ("weight", "bias"))
        temperature = float(file.metadata()["temperature"])
    logits: NDArray[np.float64] = (features @ weight.T + bias) / temperature
    return logits
