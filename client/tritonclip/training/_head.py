"""A trained head, and the file that it lies in: head.safetensors, which `tritonclip-server head` publishes."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tritonclip._errors import ConfigError
from tritonclip.protocol.messages import FloatArray

FILE: Final = "head.safetensors"
FORMAT: Final = "tritonclip-head-1"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier of features [N, D] of length 1 into C labels, for the model with this ``fingerprint``.

    logits [N, C] = (features @ ``weight`` [C, D] transposed + ``bias`` [C]) / ``temperature``, and probabilities are
    their softmax. An image whose greatest probability is below the ``threshold`` is proposed to be none of the labels;
    None where no threshold could be found. ``made`` says how it was trained, as JSON has it.

    Raises ConfigError, naming the entry, for what cannot be a head.
    """

    name: str
    labels: tuple[str, ...]
    fingerprint: str
    weight: FloatArray = field(repr=False)
    bias: FloatArray = field(repr=False)
    temperature: float
    threshold: float | None
    made: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_labels(self.labels)
        if (
            self.weight.ndim != 2
            or self.weight.shape[0] != len(self.labels)
            or self.bias.shape != self.weight.shape[:1]
        ):
            raise ConfigError(
                f"{len(self.labels)} labels, and weights {list(self.weight.shape)}, biases {list(self.bias.shape)}"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ConfigError("a weight or a bias is not finite")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature: expected a number above 0, got {self.temperature!r}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold: expected a number from 0 to 1, got {self.threshold!r}")

    def logits(self, features: FloatArray) -> FloatArray:
        """float32 [N, C], as they are served."""
        found: FloatArray = (features @ self.weight.T + self.bias) / np.float32(self.temperature)
        return found

    def write(self, folder: Path) -> Path:
        """Write it as head.safetensors into a folder, in the place of one that is there; returns its path."""
        metadata = {
            "format": FORMAT,
            "name": self.name,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "fingerprint": self.fingerprint,
            "temperature": repr(self.temperature),
            "threshold": "" if self.threshold is None else repr(self.threshold),
            "made": json.dumps(self.made, ensure_ascii=False),
        }
        tensors = {"weight": self.weight.astype(np.float32), "bias": self.bias.astype(np.float32)}
        path, unfinished = folder / FILE, folder / f".{FILE}.unfinished"
        unfinished.write_bytes(save(tensors, metadata))
        unfinished.replace(path)
        return path


def read_head(folder: Path) -> Head:
    """The head in a folder that ``tritonclip train`` has written; ConfigError says what is wrong with it."""
    path = folder / FILE
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ConfigError(f"{path}: its format is {metadata.get('format')!r}, not {FORMAT!r}")
            return Head(
                name=metadata["name"],
                labels=tuple(json.loads(metadata["labels"])),
                fingerprint=metadata["fingerprint"],
                weight=file.get_tensor("weight"),
                bias=file.get_tensor("bias"),
                temperature=float(metadata["temperature"]),
                threshold=float(metadata["threshold"]) if metadata["threshold"] else None,
                made=json.loads(metadata["made"]),
            )
    except FileNotFoundError:
        raise ConfigError(f"{folder} has no {FILE}: `tritonclip train` writes one") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as exc:
        raise exc if isinstance(exc, ConfigError) else ConfigError(f"{path} is no trained head: {exc}") from exc


def check_name(name: str) -> None:
    """ConfigError for what cannot be the name of a label set, and so part of a model's."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a head: lower-case letters, digits, - and _, at most 64")


def check_labels(labels: tuple[str, ...]) -> None:
    """ConfigError for fewer than two labels, for empty ones, for line breaks in them, and for two that are alike."""
    if len(labels) < 2:
        raise ConfigError(f"a head tells labels apart, and there is {'only ' + repr(labels[0]) if labels else 'none'}")
    for label in labels:
        if not label.strip() or "\n" in label or "\r" in label:
            raise ConfigError(f"{label!r} is no label: it must have text, on one line")
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise ConfigError(f"labels must differ, and these are there more than once: {', '.join(map(repr, repeated))}")
