"""Trained heads: files that `tritonclip train` writes, stored in a served repository as label sets.

    head.safetensors: weight [C, D], bias [C]; name, labels, fingerprint, temperature, threshold
    ──TrainedHead──> classifiers: models of the repository

A file is taken for nothing that it does not say: of another format, another encoder, or with values that cannot be, it
is refused. Logits served are (features @ weight.T + bias) / temperature, for features of length 1.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tritonclip_server.export.classifiers import (
    Accept,
    check_name,
    publish_classifier,
    require_intact,
    served_manifest,
)
from tritonclip_server.export.encoders import TrainedHead
from tritonclip_server.export.errors import BadHead
from tritonclip_server.repository.label_sets import LabelSet, edition_of, read_label_set

FORMAT = "tritonclip-head-1"
FILE = "head.safetensors"  # in the folder that `tritonclip train` fills


@dataclass(frozen=True, eq=False)
class HeadFile:
    """What a file holds, checked: weight fp32 [C, D], bias fp32 [C], and what they are for."""

    path: Path
    name: str
    labels: tuple[str, ...]
    fingerprint: str
    temperature: float
    threshold: float | None
    weight: Tensor
    bias: Tensor

    def module(self) -> TrainedHead:
        """What is served."""
        return TrainedHead(self.weight, self.bias, self.temperature)


def read_head(source: Path) -> HeadFile:
    """A head by its file, or the folder that it lies in; BadHead says what is wrong with it."""
    path = source / FILE if source.is_dir() else source
    try:
        with safe_open(path, framework="pt") as file:
            entries = file.metadata() or {}
            _require(path, entries.get("format") == FORMAT, f"no head: its format is not {FORMAT}")
            _require(path, {*file.keys()} == {"weight", "bias"}, "it does not hold a weight and a bias")
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    except (OSError, SafetensorError) as error:
        raise BadHead(f"{path}: no readable safetensors file ({error})") from error
    labels = _labels(path, entries)
    shapes = weight.ndim == 2 and bias.shape == weight.shape[:1] and len(weight) == len(labels)
    _require(path, shapes, f"{len(labels)} labels, weight {list(weight.shape)} and bias {list(bias.shape)}")
    for tensor in (weight, bias):
        usable = tensor.dtype == torch.float32 and bool(tensor.isfinite().all())
        _require(path, usable, "weight and bias are not all finite numbers of 32 bits")
    temperature = _number(path, entries, "temperature")
    _require(path, temperature > 0, "its temperature is not above 0")
    served = TrainedHead(weight, bias, temperature)
    finite = bool(served.weight.isfinite().all() and served.bias.isfinite().all())
    _require(path, finite, f"weights over its temperature of {temperature:g} are beyond 32 bits")
    threshold = _number(path, entries, "threshold") if entries.get("threshold") else None
    _require(path, threshold is None or 0 <= threshold <= 1, "its threshold is no probability")
    name, fingerprint = entries.get("name", ""), entries.get("fingerprint", "")
    return HeadFile(path, name, labels, fingerprint, temperature, threshold, weight, bias)


def publish_head(repository: Path, head: HeadFile, name: str, accept: Accept | None = None) -> LabelSet:
    """Add a trained head to a served repository as the label set `name`, in the place of an earlier one.

    Raises BadLabels for a name that cannot be a model's; BadHead where it was trained on the features of another
    encoder; RepositoryNotFound, RepositoryDamaged; and what `publish_classifier` raises, which also calls `accept`.
    """
    check_name(name)
    require_intact(repository)
    manifest = served_manifest(repository)
    if head.fingerprint != manifest["fingerprint"]:
        raise BadHead(
            f"{head.path}: trained on the features of another encoder, {head.fingerprint}; {repository} has "
            f"{manifest['fingerprint']}: train it again on a server of that"
        )
    width = manifest["embedding_width"]
    _require(
        head.path, head.weight.shape[1] == width, f"weights of {head.weight.shape[1]} values; features have {width}"
    )
    return publish_classifier(repository, _record(head, name), head.module(), accept)


def is_published(repository: Path, head: HeadFile, name: str) -> bool:
    """Whether the repository holds this very head undamaged under that name."""
    stored = read_label_set(repository, name)
    return stored is not None and stored.edition == edition_of(_record(head, name))


def _record(head: HeadFile, name: str) -> LabelSet:
    served = head.module()
    digest = hashlib.sha256(served.weight.numpy().tobytes() + served.bias.numpy().tobytes()).hexdigest()
    return LabelSet(name, head.fingerprint, head.labels, (), digest, kind="trained", threshold=head.threshold)


def _labels(path: Path, entries: dict[str, str]) -> tuple[str, ...]:
    try:
        labels = json.loads(entries.get("labels", ""))
    except (ValueError, RecursionError) as error:
        raise BadHead(f"{path}: its labels are no JSON list") from error
    good = isinstance(labels, list) and all(map(_is_line, labels))
    _require(path, good, "its labels are not a list of texts of one line each")
    _require(path, len({*labels}) == len(labels), "two of its labels are alike")
    _require(path, len(labels) > 1, "one label alone has nothing that it could be told from")
    return tuple(labels)


def _is_line(label: object) -> bool:
    """Whether it is a text that a line of a file can hold."""
    if not isinstance(label, str) or label.splitlines() != [label] or not label.strip():
        return False
    return not any("\ud800" <= character <= "\udfff" for character in label)


def _number(path: Path, entries: dict[str, str], key: str) -> float:
    try:
        value = float(entries.get(key, ""))
    except ValueError:
        value = math.nan
    _require(path, math.isfinite(value), f"its {key} is no number")
    return value


def _require(path: Path, holds: bool, reason: str) -> None:
    if not holds:
        raise BadHead(f"{path}: {reason}")
