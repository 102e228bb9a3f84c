"""The `tritonclip-server finetune` command."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tritonclip import ConfigError
from tritonclip_server.export.errors import ExportError
from tritonclip_server.export.label_sources import BUILT_IN_LABELS, BUILT_IN_TEMPLATES
from tritonclip_server.export.variants import resolve
from tritonclip_server.finetune.data import Source
from tritonclip_server.finetune.errors import FinetuneError
from tritonclip_server.finetune.pipeline import TUNED, Request, finetune
from tritonclip_server.finetune.recipe import MOST_IMAGES, Recipe

EXAMPLES = """examples:
  tritonclip-server finetune convnext_base_w-laion2b_s13b_b82k_augreg birds/ --output mymodel/ --keep photos.csv
  tritonclip-server export mymodel/
  torchrun --nproc-per-node 8 -m tritonclip_server finetune VARIANT birds/ --output mymodel/

DATA is a folder with a folder for each class, or a CSV with the columns path,label. A run that was interrupted goes on
when the same command is given again.
"""

Number = TypeVar("Number", int, float)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server finetune",
        description="Fine-tune an OpenCLIP model on labelled images, and mix the result with what it was before.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("variant", metavar="VARIANT", help="the model to start from, as `export` takes it")
    command.add_argument("data", type=Path, metavar="DATA", help="the images to learn from")
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="gets the model, in open_clip's local-dir layout"
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="weights to start from (default: VARIANT's own)",
    )
    command.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="VARIANT's tokenizer, as `export` takes it (default: the hub's)",
    )
    _add_data_options(command)
    _add_recipe_options(command)
    command.add_argument(
        "--accumulate",
        type=_number(int, 1),
        default=1,
        metavar="N",
        help="compute a batch in N parts, with the memory of one and the result of the whole (default: %(default)s)",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (default: auto)"
    )
    return command


def _add_data_options(command: argparse.ArgumentParser) -> None:
    labels = f"FILE|{'|'.join(BUILT_IN_LABELS)}"
    group = command.add_argument_group("data")
    group.add_argument(
        "--labels", metavar=labels, help="what the classes are called in prompts (default: their folders' names)"
    )
    group.add_argument(
        "--class-map", type=Path, metavar="CSV", help="with --labels: which of them each class folder is (folder,label)"
    )
    group.add_argument(
        "--templates",
        default="openai",
        metavar=f"{'|'.join(BUILT_IN_TEMPLATES)}|FILE",
        help="what prompts are made by, as `labels` takes it (default: %(default)s)",
    )
    group.add_argument(
        "--validation-share",
        type=_number(float, 0.01, 0.9),
        default=0.2,
        metavar="X",
        help="of DATA, by which the mixture is chosen (default: %(default)s)",
    )
    group.add_argument("--test", type=Path, metavar="DATA", help="images of the same classes, for figures alone")
    group.add_argument("--keep", type=Path, metavar="DATA", help="images of another task that is not to be forgotten")
    group.add_argument("--keep-labels", metavar=labels, help="what their classes are called")
    group.add_argument(
        "--keep-loss",
        type=_number(float, 0, 100),
        default=1.0,
        metavar="X",
        help="how many points of top-1 the mixture may lose on them (default: %(default)s)",
    )


def _add_recipe_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("recipe")
    group.add_argument("--epochs", type=_number(int, 1), default=10, metavar="N", help="default: %(default)s")
    group.add_argument(
        "--batch",
        type=_number(int, 2),
        metavar="N",
        help=f"images a step, in all processes together (default: {MOST_IMAGES}, or as many as there are)",
    )
    group.add_argument("--lr", type=_number(float, 0), default=1e-5, metavar="X", help="default: %(default)s")
    group.add_argument("--weight-decay", type=_number(float, 0), default=0.1, metavar="X", help="default: %(default)s")
    for tower in ("image", "text"):
        group.add_argument(
            f"--{tower}-layers",
            type=_number(int, 0),
            metavar="N",
            help=f"train the last N groups of layers of the {tower} tower alone (default: all)",
        )
    group.add_argument("--seed", type=_number(int, 0), default=0, metavar="N", help="default: %(default)s")


def _number(kind: Callable[[str], Number], least: Number, most: Number | None = None) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        value = kind(text)
        if not (least <= value and (most is None or value <= most)):  # NaN is none either
            raise argparse.ArgumentTypeError(f"{text}: from {least}" + (f" to {most}" if most is not None else " on"))
        return value

    parse.__name__ = "number"
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 with one line on stderr, or 130 when interrupted."""
    command = parser()
    options = command.parse_args(arguments)
    if options.class_map is not None and options.labels is None:
        command.error("--class-map is for --labels")
    if options.keep_labels is not None and options.keep is None:
        command.error("--keep-labels is for --keep")
    try:
        _finetune(options)
    except (FinetuneError, ExportError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _finetune(options: argparse.Namespace) -> None:
    request = Request(
        variant=resolve(options.variant),
        source=Source(options.data, options.labels, options.class_map),
        output=options.output,
        recipe=Recipe(
            epochs=options.epochs,
            learning_rate=options.lr,
            weight_decay=options.weight_decay,
            image_layers=options.image_layers,
            text_layers=options.text_layers,
            seed=options.seed,
        ),
        checkpoint=options.checkpoint,
        tokenizer=options.tokenizer,
        templates=options.templates,
        batch=options.batch,
        parts=options.accumulate,
        validation_share=options.validation_share,
        keep=Source(options.keep, options.keep_labels) if options.keep else None,
        test=Source(options.test, options.labels, options.class_map) if options.test else None,
        most_lost=options.keep_loss,
        device=options.device,
    )
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    report = finetune(request, say)
    if report is not None:
        print(report.markdown())
        print(f"alpha {report.chosen.alpha:g} is in {options.output}, the fine-tuned model in {options.output / TUNED}")
        print(f"to serve it: tritonclip-server export {options.output}")
