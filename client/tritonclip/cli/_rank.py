"""``tritonclip rank``: images against sentences, the most probable sentence first.

A softmax is relative to the other sentences, so of one sentence alone there is none: null in JSON, - in the table.
"""

import argparse
import math

import numpy as np

from tritonclip._client import Client
from tritonclip._results import Comparison
from tritonclip.cli import _output, _sources
from tritonclip.cli._usage import UsageError

_HEADER = ["image", "text", "cosine", "logit", "probability"]


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Compare what the arguments name; returns how many images failed."""
    _output.check_format(arguments.format, _output.TABULAR)
    names, texts = _read(arguments)
    images = _sources.find_images(names)
    progress = _output.show_progress(len(images))
    result = client.compare(
        [image.item for image in images],
        texts,
        on_error="return",
        on_truncation=arguments.on_truncation,
        progress=progress,
    )
    rows = [
        [
            image.name,
            texts[column],
            float(result.cosine[row, column]),
            float(result.logits[row, column]),
            _probability(result, row, int(column)),
        ]
        for row, image in enumerate(images)
        if row not in result.errors
        # By logit: the order of the probabilities, also among those that round to 0.
        for column in np.argsort(-result.logits[row], kind="stable")
    ]
    activation = result.activation
    if arguments.format == "json":
        text = _output.to_json([dict(zip(_HEADER, row, strict=True), activation=activation) for row in rows])
    elif arguments.format == "csv":
        text = _output.to_csv([*_HEADER, "activation"], [[*row, activation] for row in rows])
    else:
        text = _output.to_table([*_HEADER[:-1], f"{_HEADER[-1]} ({activation})"], rows)
    _output.write_text(text, arguments.output)
    return _output.report_failures(result.errors, [image.name for image in images])


def _probability(result: Comparison, row: int, column: int) -> float | None:
    """The probability, None where there is none: of one sentence alone."""
    probability = float(result.probabilities[row, column])
    return None if math.isnan(probability) else probability


def _read(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    inputs: list[str] = arguments.inputs
    if arguments.image:
        names, texts = arguments.image, list(inputs)
    else:
        names, texts = inputs[:1], inputs[1:]
    if arguments.texts_from:
        texts += _sources.read_lines(arguments.texts_from)
    if not names or not texts:
        raise UsageError('give an image and sentences: tritonclip rank IMAGE "a cat" "a dog"')
    return names, texts
