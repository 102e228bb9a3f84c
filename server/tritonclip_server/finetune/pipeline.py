"""One run from end to end: read, train, mix, choose, write."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.interpolation import mix
from tritonclip_server.export.label_sources import read_templates
from tritonclip_server.export.tokenizer import tokenizer_digest, tokenizer_settings
from tritonclip_server.export.variants import FOLDER_CONFIG, Variant
from tritonclip_server.finetune.accuracy import Exam
from tritonclip_server.finetune.batches import Batches, Transform
from tritonclip_server.finetune.data import LabelledSet, Source, read_set, split
from tritonclip_server.finetune.errors import OtherRun
from tritonclip_server.finetune.folder import model_config, write_folder, write_text_files
from tritonclip_server.finetune.network import Network, unfreeze
from tritonclip_server.finetune.processes import Processes, joined
from tritonclip_server.finetune.recipe import Plan, Recipe, fitting_batch
from tritonclip_server.finetune.report import Report
from tritonclip_server.finetune.state import STATE, Run
from tritonclip_server.finetune.sweep import Exams, choose, sweep
from tritonclip_server.finetune.training import train

TUNED = "fine-tuned"  # the folder of the model at alpha 1, within the output

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to train on what, where to, and how: the resolved options of the command. A batch of None fits the data."""

    variant: Variant
    source: Source
    output: Path
    recipe: Recipe
    checkpoint: Path | None = None
    tokenizer: Path | None = None
    templates: str = "openai"
    batch: int | None = None
    parts: int = 1
    validation_share: float = 0.2
    keep: Source | None = None
    test: Source | None = None
    most_lost: float = 1.0
    device: str = "auto"


@dataclass(frozen=True)
class Sets:
    """The data of a run, read."""

    training: LabelledSet
    validation: LabelledSet
    keep: LabelledSet | None
    test: LabelledSet | None

    @property
    def unreadable(self) -> dict[str, str]:
        """The files that could not be read, of all."""
        sets = [data for data in (self.training, self.keep, self.test) if data is not None]
        return {path: reason for data in sets for path, reason in data.unreadable.items()}


def finetune(request: Request, say: Say) -> Report | None:
    """Train, and write the chosen mixture into the output folder and the fine-tuned model into one within it.

    Several processes that torchrun started do it together; all but the first return None. A run that was interrupted
    goes on. Raises FinetuneError, ExportError and ConfigError.
    """
    if (request.output / FOLDER_CONFIG).exists():
        raise OtherRun(f"{request.output} holds a model already: give another --output, or remove it")
    with joined(request.device) as processes:
        tell = say if processes.is_first else lambda _line: None
        checkpoint = load_checkpoint(request.variant, checkpoint=request.checkpoint, tokenizer=request.tokenizer)
        tokenizer_settings(checkpoint.tokenizer)  # hours of training are for what can be served
        templates = read_templates(request.templates)
        sets = _read(request, processes)
        tell(_what(sets))
        start = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
        run = _train(request, checkpoint, sets.training, templates, processes, tell)
    if not processes.is_first:
        return None
    report = _mix_and_choose(request, checkpoint, start, sets, processes, run.identity, tell)
    run.file.unlink()
    return report


def _read(request: Request, processes: Processes) -> Sets:
    classes = request.source.classes()
    training, validation = split(
        read_set(request.source, classes, processes), request.validation_share, request.recipe.seed
    )
    keep = read_set(request.keep, request.keep.classes(), processes) if request.keep else None
    test = read_set(request.test, classes, processes) if request.test else None
    return Sets(training, validation, keep, test)


def _what(sets: Sets) -> str:
    counts = f"{len(sets.training.images)} images to learn from, {len(sets.validation.images)} to validate on"
    unreadable = f"; {len(sets.unreadable)} cannot be read and are left out" if sets.unreadable else ""
    return f"data: {len(sets.training.classes)} classes, {counts}{unreadable}"


def _train(
    request: Request,
    checkpoint: Checkpoint,
    training: LabelledSet,
    templates: tuple[str, ...],
    processes: Processes,
    tell: Say,
) -> Run:
    batch = fitting_batch(request.batch, len(training.images), processes.count, request.parts)
    plan = Plan(request.recipe, len(training.images), batch)
    run = Run(request.output / STATE, _identity(checkpoint, training, templates, plan))
    unfreeze(checkpoint.model, plan.recipe.image_layers, plan.recipe.text_layers)
    network = Network(checkpoint.model, request.parts, compiled=processes.device.type == "cuda")
    transform = _transform(checkpoint, is_train=True)
    batches = Batches(training, templates, transform, checkpoint.tokenizer, plan, processes)
    tell(f"train: {request.recipe.epochs} epochs of {plan.epoch_steps} steps of {batch} images on {processes.device}")
    train(network, batches, run)
    checkpoint.model.requires_grad_(False)
    return run


def _mix_and_choose(
    request: Request,
    checkpoint: Checkpoint,
    start: dict[str, torch.Tensor],
    sets: Sets,
    processes: Processes,
    about: Mapping[str, Any],
    tell: Say,
) -> Report:
    tuned = {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.model.state_dict().items()}
    transform = _transform(checkpoint, is_train=False)
    templates = read_templates(request.templates)

    def exam(data: LabelledSet | None) -> Exam | None:
        return Exam.of(data, templates, transform, processes) if data else None

    exams = Exams(Exam.of(sets.validation, templates, transform, processes), exam(sets.keep), exam(sets.test))
    points = sweep(checkpoint.model.to(processes.device), checkpoint.tokenizer, start, tuned, exams, tell)
    chosen = choose(points, request.most_lost)
    report = Report(points, chosen, request.most_lost, sets.unreadable, about)
    config = model_config(checkpoint)
    for folder in (request.output / TUNED, request.output):
        write_text_files(folder, checkpoint)
    write_folder(request.output / TUNED, config, tuned)
    report.write(request.output)
    write_folder(request.output, config, mix(start, tuned, chosen.alpha))  # last: its config says that all is there
    return report


def _transform(checkpoint: Checkpoint, *, is_train: bool) -> Transform:
    """open_clip's own, for training with its default augmentation: a crop of 90 to 100 % of the area."""
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(checkpoint.model))
    transform: Transform = image_transform_v2(config, is_train=is_train)
    return transform


def _identity(checkpoint: Checkpoint, training: LabelledSet, templates: tuple[str, ...], plan: Plan) -> dict[str, Any]:
    """What must be the same for a run to go on: whatever the result depends on, rounding apart."""
    images = json.dumps([(image.name, image.label) for image in training.images])
    return {
        "model": checkpoint.variant.name,
        "weights": checkpoint.weights_digest(),
        "tokenizer": tokenizer_digest(checkpoint.tokenizer),
        "images": hashlib.sha256(images.encode()).hexdigest(),
        "classes": list(training.classes),
        "templates": list(templates),
        "batch": plan.batch,
        **asdict(plan.recipe),
    }
