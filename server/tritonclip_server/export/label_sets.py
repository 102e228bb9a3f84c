"""Zero-shot label sets: classifiers of label texts, stored in a served repository.

    labels, templates ─text_tokenize─> tokens ─text_encoder─> features ─mean, normalise─> one vector a label
    ──Head──> classifiers: models of the repository

The repository's own tokenizer and text encoder make the vectors, so no checkpoint is needed again, and a label set
answers as its labels do when they come with a request. It belongs to the fingerprint it was made for.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import json_format
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from tritonclip_server.export.classifiers import (
    Accept,
    check_name,
    publish_classifier,
    require_intact,
    served_manifest,
)
from tritonclip_server.export.encoders import Head
from tritonclip_server.export.errors import BadLabels, RepositoryNotFound
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.repository.configs import read_config
from tritonclip_server.repository.label_sets import LabelSet, read_label_set
from tritonclip_server.repository.manifest import model_folder, read_manifest

BATCH = 64  # texts in one pass of the encoder


def publish_label_set(
    repository: Path, name: str, prompts: Prompts, device: torch.device, accept: Accept | None = None
) -> LabelSet:
    """Encode the labels and add the label set to a served repository, in the place of one with the same name.

    Raises BadLabels for a name that cannot be a model's, or texts that the model cannot tell apart or would not read
    to the end; RepositoryNotFound, RepositoryDamaged; and what `publish_classifier` raises, which also calls `accept`.
    """
    check_name(name)
    require_intact(repository)  # before minutes of encoding
    return add_label_set(repository, name, prompts, encode_labels(repository, prompts, device), accept)


def add_label_set(
    repository: Path, name: str, prompts: Prompts, vectors: Tensor, accept: Accept | None = None
) -> LabelSet:
    """Add a label set whose label vectors, fp32 [C, D] of length 1, are there already."""
    manifest = served_manifest(repository)
    digest = hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    label_set = LabelSet(name, manifest["fingerprint"], prompts.labels, prompts.templates, digest)
    module = Head(vectors, manifest["logit_scale"], manifest["logit_bias"])
    return publish_classifier(repository, label_set, module, accept)


def is_published(repository: Path, name: str, prompts: Prompts) -> bool:
    """Whether the repository holds this label set undamaged, of the same prompts and for its present encoder."""
    fingerprint = (read_manifest(repository) or {}).get("fingerprint")
    stored = read_label_set(repository, name)
    if stored is None or not stored.edition:
        return False
    found = (stored.name, stored.fingerprint, stored.labels, stored.templates)
    return found == (name, fingerprint, prompts.labels, prompts.templates)


@torch.inference_mode()
def encode_labels(repository: Path, prompts: Prompts, device: torch.device) -> Tensor:
    """A vector for each label, fp32 [C, D] of length 1, as open_clip's `build_zero_shot_classifier` makes them.

    Each is the normalised mean of the features of its prompts. A progress bar counts labels.
    """
    tokenize = _load_tokenizer(model_folder(repository, "text_tokenize"))
    artifact = model_folder(repository, "text_encoder") / "1" / "model.pt"
    encoder = torch.jit.load(artifact, map_location=device).eval()  # type: ignore[no-untyped-call]
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


def _load_tokenizer(model: Path) -> Any:
    """A function from a label and its prompts to int32 [T, L], by the module and files that Triton would load."""
    spec = importlib.util.spec_from_file_location("tokenize_text", model / "1" / "tokenize_text.py")
    if spec is None or spec.loader is None:
        raise RepositoryNotFound(f"{model} has no tokenizer: publish the repository again")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(model / "1"))  # as Triton has it: the file imports those beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(model / "1"))
        for beside in (model / "1").glob("*.py"):
            sys.modules.pop(beside.stem, None)  # another repository's may differ
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
