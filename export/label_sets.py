"""Label sets: zero-shot classifiers stored as Triton models in a served repository.

    labels, templates ─text_tokenize─> tokens ─text_encoder─> features ─mean, normalise─> one vector a label
    ──Head──> head_NAME (TorchScript), classify_NAME (ensemble), both with labels.txt

The repository's own tokenizer and text encoder make the vectors, so no checkpoint is needed again, and a label set
answers as its labels do when they come with a request. It belongs to the fingerprint it was made for.
"""

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import json_format, text_format
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.configs import read_config, set_cpu_host
from export.encoders import Head
from export.errors import BadLabels, LabelSetMismatch, RepositoryNotFound
from export.label_sources import Prompts
from export.manifest import read_manifest
from export.publishing import amended
from export.tracing import trace

TEMPLATES = Path(__file__).with_name("label_set")  # configs of the two models
RECORD = "label_set.json"  # in the version folder of head_NAME
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
BATCH = 64  # texts in one pass of the encoder


@dataclass(frozen=True)
class LabelSet:
    """What is written beside a head: what it was made of, and for which fingerprint."""

    name: str
    fingerprint: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    weights_sha256: str  # of the label vectors, fp32 [C, D]

    @property
    def models(self) -> tuple[str, str]:
        """The folders of a served repository that hold it."""
        return f"head_{self.name}", f"classify_{self.name}"


def publish_label_set(repository: Path, name: str, prompts: Prompts, device: torch.device) -> LabelSet:
    """Encode the labels and add the label set to a served repository, in the place of one with the same name.

    Raises BadLabels for a name that cannot be a model's, or a text the tokenizer refuses; RepositoryNotFound. The
    repository stays as it was until everything is there.
    """
    if not NAME.fullmatch(name):
        raise BadLabels(f"{name!r} is no name for a label set: lower-case letters, digits, - and _, at most 64")
    _manifest(repository)  # before minutes of encoding
    return add_label_set(repository, name, prompts, encode_labels(repository, prompts, device))


def add_label_set(repository: Path, name: str, prompts: Prompts, vectors: Tensor) -> LabelSet:
    """Add a label set whose label vectors, fp32 [C, D] of length 1, are there already."""
    manifest = _manifest(repository)
    digest = hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    label_set = LabelSet(name, manifest["fingerprint"], prompts.labels, prompts.templates, digest)
    with amended(repository) as copy:
        _write(copy, label_set, vectors, manifest)
    return label_set


def is_published(repository: Path, name: str, prompts: Prompts) -> bool:
    """Whether the repository holds this label set already, made of the same prompts for its present encoder."""
    fingerprint = (read_manifest(repository) or {}).get("fingerprint")
    wanted = (name, fingerprint, prompts.labels, prompts.templates)
    return any((s.name, s.fingerprint, s.labels, s.templates) == wanted for s in stored_label_sets(repository))


@torch.inference_mode()
def encode_labels(repository: Path, prompts: Prompts, device: torch.device) -> Tensor:
    """A vector for each label, fp32 [C, D] of length 1, as open_clip's `build_zero_shot_classifier` makes them.

    Each is the normalised mean of the features of its prompts. A progress bar counts labels.
    """
    tokenize = _load_tokenizer(repository / "text_tokenize")
    encoder = torch.jit.load(repository / "text_encoder" / "1" / "model.pt", map_location=device).eval()  # type: ignore[no-untyped-call]
    vectors = []
    for label in tqdm(prompts.labels, unit="label", desc="labels", disable=None):
        tokens = torch.from_numpy(tokenize(label, prompts.of(label)))
        features = torch.cat([encoder(part.to(device)).cpu() for part in torch.split(tokens, BATCH)])
        vectors.append(functional.normalize(features.mean(dim=0), dim=0))
    return torch.stack(vectors)


def stored_label_sets(repository: Path) -> list[LabelSet]:
    """The label sets of a served repository, by name."""
    records = sorted(repository.glob(f"head_*/1/{RECORD}"))
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    return [
        LabelSet(**document | {key: tuple(document[key]) for key in ("labels", "templates")}) for document in documents
    ]


def carry_over(old: Path, new: Path, fingerprint: str) -> list[str]:
    """Copy the label sets of a repository into the one that takes its place; returns their names.

    Raises LabelSetMismatch, naming those that were made for another fingerprint.
    """
    label_sets = stored_label_sets(old)
    strangers = [label_set.name for label_set in label_sets if label_set.fingerprint != fingerprint]
    if strangers:
        raise LabelSetMismatch(
            f"{old} has label sets made for another fingerprint than {fingerprint}: {', '.join(strangers)}. Nothing "
            "was published. --drop-label-sets publishes without them; make them again with `python -m export labels`"
        )
    for label_set in label_sets:
        for model in label_set.models:
            shutil.copytree(old / model, new / model)
    return [label_set.name for label_set in label_sets]


def _manifest(repository: Path) -> dict[str, Any]:
    manifest = read_manifest(repository)
    if manifest is None:
        raise RepositoryNotFound(f"{repository} is no served repository; publish one with `python -m export VARIANT`")
    return manifest


def _write(repository: Path, label_set: LabelSet, vectors: Tensor, manifest: dict[str, Any]) -> None:
    for model in label_set.models:
        shutil.rmtree(repository / model, ignore_errors=True)
        (repository / model / "1").mkdir(parents=True)
        (repository / model / "labels.txt").write_text("\n".join(label_set.labels) + "\n", encoding="utf-8")
    head, classify = label_set.models
    count, width = vectors.shape
    head_config = read_config(TEMPLATES / "head" / "config.pbtxt")
    head_config.input[0].dims[:] = [width]
    classify_config = read_config(TEMPLATES / "classify" / "config.pbtxt")
    classify_config.ensemble_scheduling.step[-1].model_name = head
    for config, name in ((head_config, head), (classify_config, classify)):
        _write_config(config, name, count, manifest["host"], repository)
    module = Head(vectors, manifest["logit_scale"], manifest["logit_bias"])
    trace(module, (torch.eye(2, width),), repository / head / "1" / "model.pt")
    record = json.dumps(asdict(label_set), ensure_ascii=False, indent=1) + "\n"
    (repository / head / "1" / RECORD).write_text(record, encoding="utf-8")


def _write_config(config: ModelConfig, name: str, labels: int, host: str, repository: Path) -> None:
    config.name = name
    for output in config.output:
        output.dims[:] = [labels]
    if host == "cpu":
        set_cpu_host(config)
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


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
            tokenizer.fill(rows, [prompt.encode() for prompt in prompts])
        except module.InvalidText as error:
            raise BadLabels(f"label {label[:60]!r}: {error}") from error
        return rows

    return tokenize
