"""Fine-tuning from end to end: what `demo` knows of a new task and of its own one, and what each step changes.

    task ──seeds──> images to learn from, test images ─┬─> zero-shot
    scenes ──seeds──> scenes to keep, test scenes ─────┼─> a head: logistic regression on the features
                                                       └─> tritonclip-server finetune ──> fine-tuned, and mixed

Test images and test scenes have seeds of their own, and nothing is chosen by them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from examples.demo_model.dataset import draw_scenes, write_dataset
from examples.demo_model.model import load_model
from examples.demo_model.quality import encode_pictures, zero_shot_hits
from examples.demo_model.tasks import Task, draw_task, write_task
from tritonclip.evaluation import Proportion
from tritonclip_server.finetune.cli import main as finetune
from tritonclip_server.finetune.pipeline import TUNED

TRAINING_SEED, TEST_SEED, KEEP_SEED, SCENES_SEED = 0, 1, 500, 600
TEMPLATES = "simple"  # open_clip's 7


@dataclass(frozen=True)
class Shown:
    """How much is drawn and how long is trained; the defaults take some minutes on 2 cores."""

    images: int = 64  # of each class, to learn from
    test_images: int = 40  # of each class
    keep: int = 500  # scenes by which the mixture is chosen
    scenes: int = 1000  # test scenes
    epochs: int = 20
    batch: int = 64
    learning_rate: float = 5e-4  # at FLYP's 1e-5 so few steps hardly move so small a model


@dataclass(frozen=True)
class Row:
    """A model's top-1 on the new task and on the 72 classes of scenes."""

    name: str
    task: Proportion
    scenes: Proportion


def show(task: Task, folder: Path, shown: Shown) -> list[Row]:
    """Draw, train and measure; leaves data and models in the folder. Raises ValueError where the training fails."""
    write_task(task, folder / "task", shown.images, TRAINING_SEED)
    write_task(task, folder / "test", shown.test_images, TEST_SEED)
    write_dataset(draw_scenes(KEEP_SEED, shown.keep), folder / "scenes")
    _finetune(folder, shown)
    report = json.loads((folder / "model" / "report.json").read_text(encoding="utf-8"))
    scores = {mixture["alpha"]: mixture["test"] for mixture in report["mixtures"]}
    test = {alpha: Proportion(score["right"], score["images"]) for alpha, score in scores.items()}
    scenes = draw_scenes(SCENES_SEED, shown.scenes)

    def on_scenes(model: Any) -> Proportion:
        return Proportion(sum(zero_shot_hits(model, scenes)), len(scenes))

    start, chosen = load_model(), report["chosen_alpha"]
    kept = on_scenes(start)  # a head leaves the model as it is
    return [
        Row("before", test[0.0], kept),
        Row("a head on its features", _head(start, task, shown), kept),
        Row("fine-tuned", test[1.0], on_scenes(load_model(folder / "model" / TUNED))),
        Row(f"mixed with the start, alpha {chosen:g}", test[chosen], on_scenes(load_model(folder / "model"))),
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with 95 % intervals."""
    lines = ["| | new task | scenes |", "|---|---|---|"]
    return "\n".join(lines + [f"| {row.name} | {_cell(row.task)} | {_cell(row.scenes)} |" for row in rows])


def _finetune(folder: Path, shown: Shown) -> None:
    scenes = folder / "scenes"
    arguments = ["demo", str(folder / "task"), "--output", str(folder / "model"), "--templates", TEMPLATES]
    arguments += ["--keep", str(scenes / "labels.csv"), "--keep-labels", str(scenes / "classes.txt")]
    arguments += ["--test", str(folder / "test"), "--epochs", str(shown.epochs), "--batch", str(shown.batch)]
    arguments += ["--lr", str(shown.learning_rate)]
    if finetune(arguments):
        raise ValueError("the fine-tuning failed; its error stands above")


def _head(model: Any, task: Task, shown: Shown) -> Proportion:
    """Logistic regression on the features of the same images, its strength chosen by cross-validation."""
    training = draw_task(task, shown.images, TRAINING_SEED)
    test = draw_task(task, shown.test_images, TEST_SEED)
    features, unseen = (encode_pictures(model, [image for _, image in drawn]).numpy() for drawn in (training, test))
    heads = GridSearchCV(LogisticRegression(max_iter=2000), {"C": np.logspace(-1, 4, 6)}, cv=4)
    head = heads.fit(features, [label for label, _ in training])
    right = head.predict(unseen) == [label for label, _ in test]
    return Proportion(int(right.sum()), len(test))


def _cell(score: Proportion) -> str:
    return f"{score.value:.1%} ({score.low:.1%} to {score.high:.1%})"
