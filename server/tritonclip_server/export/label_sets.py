"""Label sets: zero-shot classifiers stored as Triton models in a served repository.

    labels, templates ─text_tokenize─> tokens ─text_encoder─> features ─mean, normalise─> one vector a label
    ──Head──> head_NAME (TorchScript), classify_NAME (ensemble), both with labels.txt

The repository's own tokenizer and text encoder make the vectors, so no checkpoint is needed again, and a label set
answers as its labels do when they come with a request. It belongs to the fingerprint it was made for.
"""

import hashlib
import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import json_format
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonclip_server.export.configs import set_cpu_host
from tritonclip_server.export.encoders import Head
from tritonclip_server.export.errors import BadLabels, LabelSetMismatch, RepositoryDamaged, RepositoryNotFound
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.export.publishing import amended
from tritonclip_server.export.tracing import trace
from tritonclip_server.repository.configs import CONFIG, read_config, write_config
from tritonclip_server.repository.label_sets import LabelSet, label_lines, read_label_set, write_label_set
from tritonclip_server.repository.manifest import file_digest, is_intact, read_manifest

TEMPLATES = Path(__file__).with_name("label_set")  # configs of the two models
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
BATCH = 64  # texts in one pass of the encoder


def publish_label_set(repository: Path, name: str, prompts: Prompts, device: torch.device) -> LabelSet:
    """Encode the labels and add the label set to a served repository, in the place of one with the same name.

    Raises BadLabels for a name that cannot be a model's, or texts that the model cannot tell apart or would not read
    to the end; RepositoryNotFound, RepositoryDamaged. The repository stays as it was until everything is there.
    """
    if not NAME.fullmatch(name):
        raise BadLabels(f"{name!r} is no name for a label set: lower-case letters, digits, - and _, at most 64")
    _manifest(repository)  # before minutes of encoding
    if not is_intact(repository):
        raise RepositoryDamaged(
            f"{repository} does not hold the files that were published, so its encoder may answer wrongly: publish it "
            "again with `tritonclip-server export VARIANT`"
        )
    return add_label_set(repository, name, prompts, encode_labels(repository, prompts, device))


def add_label_set(repository: Path, name: str, prompts: Prompts, vectors: Tensor) -> LabelSet:
    """Add a label set whose label vectors, fp32 [C, D] of length 1, are there already."""
    manifest = _manifest(repository)
    digest = hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    with amended(repository) as copy:
        model_digest = _write_models(copy, name, prompts.labels, vectors, manifest)
        label_set = LabelSet(name, manifest["fingerprint"], prompts.labels, prompts.templates, digest, model_digest)
        write_label_set(label_set, copy)
    return label_set


def is_published(repository: Path, name: str, prompts: Prompts) -> bool:
    """Whether the repository holds this label set undamaged, of the same prompts and for its present encoder."""
    fingerprint = (read_manifest(repository) or {}).get("fingerprint")
    stored = read_label_set(repository / f"head_{name}")
    if stored is None:
        return False
    found = (stored.name, stored.fingerprint, stored.labels, stored.templates)
    return found == (name, fingerprint, prompts.labels, prompts.templates)


@torch.inference_mode()
def encode_labels(repository: Path, prompts: Prompts, device: torch.device) -> Tensor:
    """A vector for each label, fp32 [C, D] of length 1, as open_clip's `build_zero_shot_classifier` makes them.

    Each is the normalised mean of the features of its prompts. A progress bar counts labels.
    """
    tokenize = _load_tokenizer(repository / "text_tokenize")
    encoder = torch.jit.load(repository / "text_encoder" / "1" / "model.pt", map_location=device).eval()  # type: ignore[no-untyped-call]
    vectors, seen = [], dict[bytes, str]()
    for label in tqdm(prompts.labels, unit="label", desc="labels", disable=None):
        rows = tokenize(label, prompts.of(label))
        known = seen.setdefault(hashlib.sha256(rows.tobytes()).digest(), label)
        if known != label:
            raise BadLabels(f"{known!r} and {label!r} are one label to the model: their tokens are equal")
        tokens = torch.from_numpy(rows)
        features = torch.cat([encoder(part.to(device)).cpu() for part in torch.split(tokens, BATCH)])
        vectors.append(functional.normalize(features.mean(dim=0), dim=0))
    return torch.stack(vectors)


def carry_over(old: Path, new: Path, fingerprint: str) -> list[str]:
    """Copy the label sets of a repository into the one that takes its place; returns their names.

    Raises LabelSetMismatch, naming those that were made for another fingerprint, or are damaged.
    """
    records = {head.name: read_label_set(head) for head in sorted(old.glob("head_*"))}
    strangers = [head for head, record in records.items() if record is None or record.fingerprint != fingerprint]
    if strangers:
        raise LabelSetMismatch(
            f"{old} has label sets that are damaged, or made for another fingerprint than {fingerprint}: "
            f"{', '.join(head.removeprefix('head_') for head in strangers)}. Nothing was published. --drop-label-sets "
            "publishes without any; make them again with `tritonclip-server labels`"
        )
    label_sets = [record for record in records.values() if record is not None]
    for label_set in label_sets:
        for model in label_set.models:
            shutil.copytree(old / model, new / model)
    return [label_set.name for label_set in label_sets]


def _manifest(repository: Path) -> dict[str, Any]:
    manifest = read_manifest(repository)
    if manifest is None:
        raise RepositoryNotFound(
            f"{repository} is no served repository; publish one with `tritonclip-server export VARIANT`"
        )
    return manifest


def _write_models(
    repository: Path, name: str, labels: tuple[str, ...], vectors: Tensor, manifest: dict[str, Any]
) -> str:
    """Write both models; returns the digest of the head's artifact."""
    head, classify = f"head_{name}", f"classify_{name}"
    for model in (head, classify):
        shutil.rmtree(repository / model, ignore_errors=True)
        (repository / model / "1").mkdir(parents=True)
        (repository / model / "labels.txt").write_bytes(label_lines(labels))
    count, width = vectors.shape
    head_config = read_config(TEMPLATES / "head" / "config.pbtxt")
    head_config.input[0].dims[:] = [width]
    classify_config = read_config(TEMPLATES / "classify" / "config.pbtxt")
    classify_config.ensemble_scheduling.step[-1].model_name = head
    for config, model in ((head_config, head), (classify_config, classify)):
        _write_config(config, model, count, manifest["host"], repository)
    module = Head(vectors, manifest["logit_scale"], manifest["logit_bias"])
    artifact = repository / head / "1" / "model.pt"
    trace(module, (torch.eye(2, width),), artifact)
    return file_digest(artifact)


def _write_config(config: ModelConfig, name: str, labels: int, host: str, repository: Path) -> None:
    config.name = name
    for output in config.output:
        output.dims[:] = [labels]
    if host == "cpu":
        set_cpu_host(config)
    write_config(config, repository / name / CONFIG)


def _load_tokenizer(model: Path) -> Any:
    """A function from a label and its prompts to int32 [T, L], by the module and files that Triton would load."""
    spec = importlib.util.spec_from_file_location("tokenize_text", model / "1" / "tokenize_text.py")
    if spec is None or spec.loader is None:
        raise RepositoryNotFound(f"{model} has no tokenizer: publish the repository again")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(model / "1"))  # as Triton has it: the file imports the one beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(model / "1"))
        sys.modules.pop("text_repair", None)  # another repository's may differ
    config = json_format.MessageToDict(read_config(model / "config.pbtxt"), preserving_proto_field_name=True)
    tokenizer = module.TextTokenizer.from_config(config, model / "1")

    def tokenize(label: str, prompts: list[str]) -> Any:
        rows = np.empty((len(prompts), tokenizer.context_length), np.int32)
        try:
            counts = tokenizer.fill(rows, [prompt.encode() for prompt in prompts])
        except module.InvalidText as error:
            raise BadLabels(f"label {label[:60]!r}: {error}") from error
        longest = max(range(len(prompts)), key=counts.__getitem__)
        if counts[longest] > tokenizer.context_length:
            raise BadLabels(
                f"label {label[:60]!r}: {prompts[longest][:90]!r} has {counts[longest]} tokens, more than the "
                f"{tokenizer.context_length} that the model reads; it would be cut"
            )
        return rows

    return tokenize
