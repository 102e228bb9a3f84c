"""The `python -m examples.demo_model` command: train the demonstration model, measure it, and write scenes as files."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from examples.demo_model.dataset import MAX_DISTINCT, draw_scenes, write_dataset
from examples.demo_model.finetuning import Shown, show, table
from examples.demo_model.loop import Recipe, train
from examples.demo_model.model import FOLDER, load_model, new_model, read_config, save_weights
from examples.demo_model.quality import measure
from examples.demo_model.tasks import TASKS, write_task

STATE = Path("build/training/demo.pt")
FINETUNING = Path("build/finetuning")
SAMPLES = Path("samples/scenes")
SAMPLE_SEED, SAMPLE_COUNT = 135, 24


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(prog="python -m examples.demo_model", description=__doc__)
    commands = command.add_subparsers(title="commands", required=True, metavar="COMMAND")
    learn = commands.add_parser("train", help="train from the seed, or from where the last run stopped")
    learn.add_argument("--steps", type=int, default=Recipe.steps, metavar="N", help="default: %(default)s")
    learn.add_argument("--restart", action="store_true", help="begin anew where an earlier run left its state")
    learn.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="DIR", help="has the config, gets the weights (default: demo's)"
    )
    learn.add_argument(
        "--state", type=Path, default=STATE, metavar="FILE", help="to resume from (default: %(default)s)"
    )
    learn.set_defaults(run=_train)
    judge = commands.add_parser("quality", help="measure the model on fresh scenes, into quality.json beside it")
    judge.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="the model (default: demo's)")
    judge.set_defaults(run=_quality)
    scenes = commands.add_parser(
        "scenes", help="write scenes as JPEGs with labels.csv, captions.csv, contact-sheet.png"
    )
    scenes.add_argument("folder", type=Path, nargs="?", default=SAMPLES, metavar="DIR", help="default: %(default)s")
    scenes.add_argument("--count", type=int, default=SAMPLE_COUNT, metavar="N", help="default: %(default)s")
    scenes.add_argument("--seed", type=int, default=SAMPLE_SEED, metavar="N", help="default: %(default)s")
    scenes.set_defaults(run=_scenes)
    task = commands.add_parser("task", help="write images that the model knows little of, in a folder for each class")
    task.add_argument("name", choices=TASKS, metavar="NAME", help=", ".join(TASKS))
    task.add_argument("folder", type=Path, metavar="DIR", help="gets the class folders, and labels.txt")
    task.add_argument("--images", type=int, default=64, metavar="N", help="of each class (default: %(default)s)")
    task.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    task.set_defaults(run=_task)
    tune = commands.add_parser(
        "finetune", help="fine-tune the model on a task, and say what it gained and what it forgot"
    )
    tune.add_argument("task", choices=TASKS, nargs="?", default="textures", metavar="NAME", help="default: %(default)s")
    tune.add_argument("--folder", type=Path, metavar="DIR", help=f"gets data and models (default: {FINETUNING}/NAME)")
    tune.add_argument("--images", type=int, default=Shown.images, metavar="N", help="of each class (%(default)s)")
    tune.set_defaults(run=_finetune)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _train(options: argparse.Namespace) -> None:
    if options.restart:
        options.state.unlink(missing_ok=True)
    config, recipe = read_config(options.folder), Recipe(steps=options.steps)
    torch.manual_seed(recipe.seed)
    model = new_model(config)

    def checkpoint(done: int) -> None:
        model.eval()
        top1 = measure(model, scenes=500)["zero_shot_top1"]
        model.train()
        print(f"\nafter {done} steps, zero-shot top-1 on 500 fresh scenes: {top1}", file=sys.stderr)

    train(model, config, recipe, options.state, checkpoint)
    path = save_weights(model, options.folder)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")
    _quality(options)


def _quality(options: argparse.Namespace) -> None:
    figures = json.dumps(measure(load_model(options.folder)), indent=2)
    (options.folder / "quality.json").write_text(figures + "\n", encoding="utf-8")
    print(figures)


def _scenes(options: argparse.Namespace) -> None:
    distinct = options.count <= MAX_DISTINCT
    write_dataset(draw_scenes(options.seed, options.count, distinct=distinct), options.folder)
    print(f"wrote {options.count} scenes and contact-sheet.png into {options.folder}")


def _task(options: argparse.Namespace) -> None:
    task = TASKS[options.name]
    write_task(task, options.folder, options.images, options.seed)
    print(f"wrote {options.images} images of each of {len(task.labels)} classes into {options.folder}")


def _finetune(options: argparse.Namespace) -> None:
    folder = options.folder or FINETUNING / options.task
    print(table(show(TASKS[options.task], folder, Shown(images=options.images))))
