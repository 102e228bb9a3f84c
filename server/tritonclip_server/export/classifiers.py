"""Label sets as models of a served repository, whether made of texts (`label_sets`) or by training (`heads`).

    a module: image features -> logits, probabilities ──trace──> head_NAME.EDITION (TorchScript)
    labels ──> head_NAME, classify_NAME (ensembles over it), the record of what it is made of

The repository's own check, which Triton runs too, looks at all of it before it takes the old one's place.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonclip.protocol import qualified
from tritonclip.protocol.names import NAME_RULE, is_name
from tritonclip_server.export.configs import set_cpu_host
from tritonclip_server.export.errors import BadLabels, LabelSetMismatch, RepositoryDamaged, RepositoryNotFound
from tritonclip_server.export.publishing import amended, removed
from tritonclip_server.export.tracing import trace
from tritonclip_server.repository.check import NotServable, read_deployed
from tritonclip_server.repository.configs import CONFIG, read_config, rename_in_config, write_config
from tritonclip_server.repository.label_sets import (
    LabelSet,
    edition_of,
    label_lines,
    label_set_names,
    models_of,
    read_label_set,
    write_label_set,
)
from tritonclip_server.repository.manifest import NAME, file_digest, is_intact, model_folder, name_of, read_manifest

TEMPLATES = Path(__file__).with_name("label_set")  # configs of the three models

Accept = Callable[[], None]


def check_name(name: str) -> None:
    """BadLabels where a name cannot be a model's."""
    if not is_name(name):
        raise BadLabels(f"{name!r} is no name for a label set: {NAME_RULE}")


def served_manifest(repository: Path) -> dict[str, Any]:
    """The manifest of a served repository; RepositoryNotFound where there is none."""
    manifest = read_manifest(repository)
    if manifest is None:
        raise RepositoryNotFound(
            f"{repository} is no served repository; publish one with `tritonclip-server export VARIANT`"
        )
    return manifest


def require_intact(repository: Path) -> None:
    """RepositoryDamaged where an artifact is not the one that was published; RepositoryNotFound."""
    served_manifest(repository)
    if not is_intact(repository):
        raise RepositoryDamaged(
            f"{repository} does not hold the files that were published, so its encoder may answer wrongly: publish it "
            "again with `tritonclip-server export VARIANT`"
        )


def publish_classifier(
    repository: Path, label_set: LabelSet, module: nn.Module, accept: Accept | None = None
) -> LabelSet:
    """Add a label set to a served repository, in the place of one with the same name; returns its record.

    `module` makes logits and probabilities [B, C] of image features [B, D]. The repository stays as it was until
    everything is there, and goes back to that where `accept`, called when it is, raises. BadLabels where the name
    is one of the other kind: whoever asks by name counts on what its numbers mean. RepositoryDamaged where the
    repository's own check refuses the result.
    """
    check_name(label_set.name)
    manifest = served_manifest(repository)
    present = read_label_set(repository, label_set.name)
    if present is not None and present.kind != label_set.kind:
        raise BadLabels(
            f"{label_set.name} is a {present.kind} label set in {repository}, and this one is {label_set.kind}: give "
            "it another name"
        )
    written = label_set = replace(label_set, edition=edition_of(label_set))
    healthy = _problem(repository) is None

    def check() -> None:
        # What else is wrong there is not for this label set to mend, nor to suffer from.
        if healthy and (problem := _problem(repository)) is not None:
            raise RepositoryDamaged(
                f"{repository} cannot be served with it: {problem}. If it was exported by an older version, publish it "
                "again with `tritonclip-server export VARIANT`"
            )
        _announce(repository, accept)

    def others() -> list[Path]:
        weights = model_folder(repository, written.weights)
        return [folder for folder in repository.glob(f"{weights.stem}.*") if folder != weights]

    with amended(repository, check, others) as folder:
        written = _write(label_set, module, manifest, folder)
    return written


def remove_classifier(repository: Path, name: str, accept: Accept | None = None) -> None:
    """Remove a label set from a served repository, even one that is damaged.

    The repository goes back to what it was where `accept`, called when the label set is gone, raises. BadLabels where
    there is none of this name; RepositoryNotFound.
    """
    served_manifest(repository)
    names = label_set_names(repository)
    if name not in names:
        raise BadLabels(f"{repository} has no label set {name!r}; it has {', '.join(names) or 'none'}")
    head, classify = (model_folder(repository, model) for model in models_of(name))
    models = [folder for folder in (head, classify, *repository.glob(f"{head.name}.*")) if folder.is_dir()]
    with removed(models, repository):
        _announce(repository, accept)


def _announce(repository: Path, accept: Accept | None) -> None:
    # Triton loads a model again only where something in its folder is newer, and this one lists label sets.
    os.utime(model_folder(repository, "manifest") / "1")
    if accept is not None:
        accept()


def _problem(repository: Path) -> str | None:
    """Why Triton would not serve a repository, by the check that lies in it."""
    try:
        read_deployed(repository, by_its_own=True)
    except NotServable as error:
        return str(error)
    return None


def carry_over(old: Path, new: Path, fingerprint: str) -> list[str]:
    """Copy the label sets of a repository into the one that takes its place; returns their names.

    `new` has no name yet, whatever the old one goes by. Raises LabelSetMismatch, naming those that were made for
    another fingerprint, or are damaged.
    """
    records = {name: read_label_set(old, name) for name in label_set_names(old)}
    strangers = [name for name, record in records.items() if record is None or record.fingerprint != fingerprint]
    if strangers:
        raise LabelSetMismatch(
            f"{old} has label sets that are damaged, or made for another fingerprint than {fingerprint}: "
            f"{', '.join(strangers)}. Nothing was published. --drop-label-sets "
            "publishes without any; make them again with `tritonclip-server labels` or `tritonclip-server head`"
        )
    prefix = qualified("", name_of(old))
    for label_set in (record for record in records.values() if record is not None):
        for model in label_set.folders:
            shutil.copytree(old / (prefix + model), new / model)
            if prefix:
                rename_in_config(new / model / CONFIG, lambda called: called.removeprefix(prefix))
    return [*records]


def _write(label_set: LabelSet, module: nn.Module, manifest: dict[str, Any], repository: Path) -> LabelSet:
    """Write the three models and the record; returns it, with the digest of the artifact."""
    width, name = int(manifest["embedding_width"]), manifest.get(NAME)
    models = (label_set.weights, *label_set.models)
    weights, head, classify = (repository / qualified(model, name) for model in models)
    for model, folder, template in zip(models, (weights, head, classify), ("weights", "head", "classify"), strict=True):
        config = read_config(TEMPLATES / template / CONFIG)
        _configure(config, model, label_set, width, manifest["host"])
        (folder / "1").mkdir(parents=True)
        write_config(config, folder / CONFIG)
        if name is not None:
            rename_in_config(folder / CONFIG, partial(qualified, name=name))
    for folder in (head, classify):
        (folder / label_set.labels_file).write_bytes(label_lines(label_set.labels))
    artifact = weights / "1" / "model.pt"
    trace(module, (torch.eye(2, width),), artifact)
    label_set = replace(label_set, model_sha256=file_digest(artifact))
    write_label_set(label_set, head)
    return label_set


def _configure(config: ModelConfig, name: str, label_set: LabelSet, width: int, host: str) -> None:
    """Fill in a template: the name, shapes, the file of labels, and the model with the weights."""
    config.name = name
    for tensor in config.input:
        if tensor.name == "image_features":
            tensor.dims[:] = [width]
    for output in config.output:
        output.dims[:] = [len(label_set.labels)]
        if output.label_filename:
            output.label_filename = label_set.labels_file
    if config.HasField("ensemble_scheduling"):
        config.ensemble_scheduling.step[-1].model_name = label_set.weights
    if host == "cpu":
        set_cpu_host(config)
