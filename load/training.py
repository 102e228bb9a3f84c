"""`python -m load.training`: trained heads on drawn tasks, beside zero-shot and scikit-learn's probes, over five seeds.

    tasks ──drawn by seed──> the running server (`make up`) ──features──> heads, probes ──> shares right, the aims

Prints a table for each task and the aims that are met or missed, and writes build/training.json. The images of a seed
are drawn for it; those to test on are the same for all. Shares do not depend on how busy the machine is; `--cost`
measures seconds, of 100 classes of 100 images at a width of 640.
"""

import argparse
import io
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from examples.demo_model.tasks import JPEG_QUALITY, TASKS, TEMPLATE, Task, draw_task
from load.core.machine import describe_machine, write_json
from load.core.turns import say
from tritonclip import Client
from tritonclip.evaluation import LabelledImage, Proportion
from tritonclip.training import Linear, Samples, fit, measure

RESULTS = Path("build/training.json")
SIZES: Final = (1, 2, 4, 8, 16, 64)  # images a class
TEST_IMAGES, TEST_SEED = 40, 1000  # of each class
ERRORS_GONE = (16, 0.5)  # images a class, share of the zero-shot errors
MODERATE = (0.3, 0.8)  # of zero-shot accuracies: where there is something to gain, and something to start from
CLASSES, IMAGES, WIDTH = 100, 100, 640
SECONDS = 60.0

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.training", description=__doc__)
    command.add_argument("--url", help="the server that embeds (default: $TRITONCLIP_URL, else grpc://localhost:8001)")
    command.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    command.add_argument("--seeds", type=int, default=5, metavar="N", help="default: %(default)s")
    command.add_argument("--cost", action="store_true", help="measure how long a large training takes, and no more")
    options = command.parse_args(arguments)
    if options.cost:
        seconds, processor = training_seconds()
        print(_aim(f"{CLASSES} classes of {IMAGES} images, width {WIDTH}: seconds", seconds, most=SECONDS))
        print(f"of the processor, which other work does not change: {processor:.1f} s")
        return 0
    with Client(options.url) as client:
        manifest = client.manifest()
        results: dict[str, dict[str, Any]] = {}
        for name in options.tasks:
            results[name] = study(client, TASKS[name], range(options.seeds))
            print("\n".join(table(name, results[name])), end="\n\n", flush=True)
    print("\n".join(aims(results)))
    model = {"variant": manifest.variant, "fingerprint": manifest.fingerprint, "precision": manifest.precision}
    write_json({"machine": describe_machine(), "model": model, "seeds": options.seeds, "tasks": results}, RESULTS)
    return 0


def study(client: Client, task: Task, seeds: Iterable[int]) -> dict[str, Any]:
    """Of each number of images the shares right over the seeds: of heads, of probes, and of the texts alone."""
    prior = _prior(client, task)
    features, labels = _embedded(client, task, TEST_IMAGES, TEST_SEED)
    zero_shot = int(np.sum(prior.logits(features).argmax(axis=1) == labels)) if task.has_texts else None
    warnings.simplefilter("ignore")  # of scikit-learn: what one image a class looks like, what its next releases change
    found: dict[str, dict[int, list[float]]] = {name: {size: [] for size in SIZES} for name in ("head", *PROBES)}
    for seed in seeds:
        say(f"{task.name}, seed {seed}")
        drawn, of = _embedded(client, task, max(SIZES), seed)
        for size in SIZES:
            rows = np.flatnonzero(np.arange(len(of)) % max(SIZES) < size)  # the first ones of each class
            head = fit(drawn[rows], of[rows], prior, seed).linear
            found["head"][size].append(float(np.mean(head.logits(features).argmax(axis=1) == labels)))
            for name, probe in PROBES.items():
                if (fitted := probe(drawn[rows], of[rows], size)) is not None:
                    found[name][size].append(float(fitted.score(features, labels)))
    return {"zero_shot": zero_shot, "tested": len(labels), "classes": len(task.labels), "right": found}


def _plain(features: Matrix, labels: Labels, size: int) -> Any:  # noqa: ARG001 - the others' signature
    return LogisticRegression(max_iter=1000).fit(features, labels)


def _tuned(features: Matrix, labels: Labels, size: int) -> Any:
    """With a strength by cross-validation, where there are images for it."""
    if size == 1:
        return None
    return LogisticRegressionCV(Cs=np.logspace(-1, 4, 6), cv=min(5, size), max_iter=200).fit(features, labels)


PROBES: Final = {"plain probe": _plain, "tuned probe": _tuned}


def _prior(client: Client, task: Task) -> Linear:
    scale = client.manifest().logit_scale
    texts = client.embed_texts([TEMPLATE.format(label) for label in task.labels]).features
    weight = texts * np.float32(scale or 1.0) if task.has_texts else np.zeros_like(texts)
    return Linear(weight, np.zeros(len(weight), np.float32))


def _embedded(client: Client, task: Task, images: int, seed: int) -> tuple[Matrix, Labels]:
    drawn = draw_task(task, images, seed)
    labels = np.array([task.labels.index(label) for label, _ in drawn])
    return client.embed_images((_jpeg(image) for _, image in drawn)).features, labels


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def table(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each number of images: mean and least share of heads over the seeds, and the probes' means."""
    zero_shot = "no texts"
    if result["zero_shot"] is not None:
        share = Proportion(result["zero_shot"], result["tested"])
        zero_shot = f"zero-shot {100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
    yield f"{name}: {result['classes']} classes, {result['tested']} images to test on, {zero_shot}"
    yield "| images a class | head | least | " + " | ".join(PROBES) + " |"
    yield "|---" * (3 + len(PROBES)) + "|"
    right = result["right"]
    for size in SIZES:
        means = [f"{100 * np.mean(right[each][size]):.1f}" if right[each][size] else "" for each in ("head", *PROBES)]
        yield f"| {size} | {means[0]} | {100 * min(right['head'][size]):.1f} | {' | '.join(means[1:])} |"


def aims(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each aim with what was found."""
    size, gone = ERRORS_GONE
    for name, result in results.items():
        right = {
            each: {n: np.mean(shares) for n, shares in by.items() if shares} for each, by in result["right"].items()
        }
        if result["zero_shot"] is not None:
            share = Proportion(result["zero_shot"], result["tested"])
            if MODERATE[0] <= share.value <= MODERATE[1]:
                errors = 1 - (1 - right["head"][size]) / (1 - share.value)
                yield _aim(f"{name}: share of zero-shot errors gone at {size} images a class", errors, least=gone)
            yield _aim(f"{name}: right at 1 image a class, and zero-shot's low end", right["head"][1], least=share.low)
        for each in SIZES:
            plain = right["plain probe"][each]
            yield _aim(f"{name}: right at {each} images a class, and the plain probe", right["head"][each], least=plain)


def training_seconds() -> tuple[float, float]:
    """How long a head takes from features that are there, on the clock and of the processor.

    Cross-validation, learning curve and threshold are in it.
    """
    generator = np.random.default_rng(0)
    spectrum = np.arange(1, WIDTH + 1) ** -0.6  # as embeddings of images vary: much along few directions
    classes, noise, common = (
        spectrum * generator.standard_normal((count, WIDTH)) for count in (CLASSES, CLASSES * IMAGES, 1)
    )
    labels = np.repeat(np.arange(CLASSES), IMAGES)
    images = 0.6 * classes[labels] + noise + common
    features = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    texts = (classes / np.linalg.norm(classes, axis=1, keepdims=True)).astype(np.float32)
    named = tuple(LabelledImage(str(number), Path(str(number)), int(of)) for number, of in enumerate(labels))
    samples = Samples(named, features, labels)
    order = generator.permutation(len(labels))
    prior = Linear(100 * texts, np.zeros(CLASSES, np.float32))
    started, processor = time.perf_counter(), time.process_time()
    measure(samples.take(order[len(order) // 5 :]), samples.take(order[: len(order) // 5]), prior, 0)
    return time.perf_counter() - started, time.process_time() - processor


def _aim(name: str, value: float, *, least: float | None = None, most: float | None = None) -> str:
    met = (least is None or value >= least) and (most is None or value <= most)
    bound = f"at least {least:.3f}" if least is not None else f"at most {most:.3f}"
    return f"{name}: {value:.3f} ({bound}: {'met' if met else 'MISSED'})"


if __name__ == "__main__":
    sys.exit(main())
