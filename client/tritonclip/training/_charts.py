"""A training's pictures: report.png with its curves, and a contact sheet of the images that the head has wrong."""

import math
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from tritonclip._thumbnails import shrink
from tritonclip.training._calibration import BINS
from tritonclip.training._results import Training

HEAD, TEXTS = "tab:blue", "tab:orange"
TILE, COLUMNS, MOST_TILES = 128, 8, 64  # pixels; images in a row, and on the sheet
CAPTION: Final = 30  # pixels: two lines
CAPTION_CHARACTERS: Final = 20


def draw_report(training: Training, path: Path) -> None:
    """The learning curve, the strengths compared, and how sure the head is where it is right, as a PNG."""
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_curve(left, training)
    _draw_trials(middle, training)
    _draw_reliability(right, training)
    figure.savefig(path, dpi=120)


def draw_wrong(training: Training, path: Path) -> None:
    """The wrong images of which the head is surest, each with its label and what it was taken for, as a PNG."""
    scores, labels = training.measured.scores, training.head.labels
    wrong = [
        (training.tested[number].path, labels[label], labels[best[0]])
        for number in np.argsort(-scores.confidence, kind="stable")
        for label, best in [scores.answers[number]]
        if label != best[0]
    ]
    shown = wrong[:MOST_TILES]
    rows = max(1, math.ceil(len(shown) / COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION) + CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    title = f"{len(shown)} of {len(wrong)} wrong images, the surest first: label, and what it was taken for"
    pen.text((4, 8), title, fill="black")
    for number, (source, label, taken_for) in enumerate(shown):
        left, top = number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION) + CAPTION
        sheet.paste(_tile(source), (left + 2, top))
        pen.text((left + 4, top + TILE - 4), f"{_short(label)}\n{_short(taken_for)}", fill="black", spacing=1)
    sheet.save(path, optimize=True)


def _draw_curve(axes: Axes, training: Training) -> None:
    points = training.measured.curve
    xs = [point.images / len(training.head.labels) for point in points]
    values = [100 * point.accuracy.value for point in points]
    below = [100 * (point.accuracy.value - point.accuracy.low) for point in points]
    above = [100 * (point.accuracy.high - point.accuracy.value) for point in points]
    axes.errorbar(xs, values, (below, above), marker="o", capsize=3, color=HEAD, label="head")
    if training.measured.zero_shot is not None:
        share = training.measured.zero_shot.accuracy
        axes.axhline(100 * share.value, color=TEXTS, label="zero-shot")
        axes.axhspan(100 * share.low, 100 * share.high, color=TEXTS, alpha=0.15)
    axes.set(xscale="log", xlabel="images a class", ylabel="top-1, percent", title="What fewer images are worth")
    axes.legend()


def _draw_trials(axes: Axes, training: Training) -> None:
    fit = training.measured.fit
    finite = [each for each in fit.trials if not math.isinf(each.strength)]
    axes.plot([each.strength for each in finite], [each.cross_entropy for each in finite], marker="o", color=HEAD)
    for each in fit.trials:
        if math.isinf(each.strength):
            axes.axhline(each.cross_entropy, color=TEXTS, label="the texts alone")
            axes.legend()
    if not math.isinf(fit.strength):
        axes.axvline(fit.strength, color="grey", linestyle=":")
    axes.set(
        xscale="log",
        xlabel="strength: to the left free, to the right as the texts",
        ylabel="cross-entropy, nats",
        title="Strengths compared on images left out",
    )


def _draw_reliability(axes: Axes, training: Training) -> None:
    scores = training.measured.scores
    right = np.array([label == best[0] for label, best in scores.answers])
    bins = np.minimum((scores.confidence * BINS).astype(int), BINS - 1)
    used = np.unique(bins)
    sure = [float(scores.confidence[bins == each].mean()) for each in used]
    true = [float(right[bins == each].mean()) for each in used]
    sizes = [400 * float(np.mean(bins == each)) + 8 for each in used]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.scatter(sure, true, sizes, color=HEAD)
    if training.head.threshold is not None:
        axes.axvline(training.head.threshold, color=TEXTS, label=f"threshold {training.head.threshold:.2f}")
        axes.legend()
    axes.set(xlabel="probability", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02), title="How sure, and how right")


def _tile(path: Path) -> Image.Image:
    tile = Image.new("RGB", (TILE - 4, TILE - 4), "lightgrey")
    try:
        with Image.open(path) as image:
            small = shrink(image, TILE - 4)
    except Exception:  # whatever a decoder raises: the server can read what Pillow cannot here
        return tile
    tile.paste(small, ((tile.width - small.width) // 2, (tile.height - small.height) // 2))
    return tile


def _short(label: str) -> str:
    return label if len(label) <= CAPTION_CHARACTERS else label[: CAPTION_CHARACTERS - 1] + "…"
