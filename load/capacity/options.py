"""Options that the capacity report and the tuning share."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from load.capacity.deployment import Deployment
from load.capacity.workload import TASKS, Work
from load.core.inputs import Spec

Number = TypeVar("Number", int, float)
DEFAULT_REPOSITORY = Path("build/models/demo")
RESULTS = Path("build/capacity")


def add_common(command: argparse.ArgumentParser) -> None:
    """What to measure, with what load, for how long, and where to write."""
    add = command.add_argument
    add("--repository", type=Path, default=DEFAULT_REPOSITORY, help="the served repository (default: %(default)s)")
    add("--task", choices=TASKS, default="embed_image", help="what each request asks (default: %(default)s)")
    add("--images-per-request", type=positive(int), default=1, metavar="N", help="texts for embed_text (default: 1)")
    add("--picture", type=_size, default=(640, 480), metavar="WxH", help="pixels of the images (default: 640x480)")
    add("--format", choices=("JPEG", "PNG", "WEBP"), default="JPEG", help="of the images (default: %(default)s)")
    add("--pictures", type=positive(int), default=16, metavar="N", help="different images (default: %(default)s)")
    add("--seconds", type=positive(float), default=10.0, help="of each measurement, warm-up apart (default: 10)")
    add("--rounds", type=positive(int), default=3, help="of each comparison (default: %(default)s)")
    add("--into", type=Path, metavar="FOLDER", help=f"for the results (default: {RESULTS}/VARIANT)")


def work_of(options: argparse.Namespace) -> Work:
    """What each request asks."""
    width, height = options.picture
    spec = Spec(width, height, options.format, options.pictures)
    return Work(options.task, options.images_per_request, spec)


def output_folder(options: argparse.Namespace, deployment: Deployment, work: Work) -> Path:
    """Where the results go."""
    if options.into is not None:
        return Path(options.into)
    name = (deployment.manifest.variant or "unknown").replace("/", "-")
    return RESULTS / (name if work.task == "embed_image" else f"{name}-{work.task}")


def positive(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """A type of argparse for numbers above zero."""

    def parse(text: str) -> Number:
        number = kind(text)
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return number

    return parse


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        return positive(int)(width), positive(int)(height)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 640x480") from error


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)
