"""``tritonclip classify``: labels for images, the best first.

An image with no label that reaches the limits has an empty list in JSON, and ``(none of these)`` elsewhere. One label
alone has no softmax, and a trained label set no cosine: null in JSON, - in the table.
"""

import argparse
from dataclasses import asdict

from tritonclip._client import Client
from tritonclip._results import Classifications
from tritonclip.cli import _output, _sources
from tritonclip.cli._usage import UsageError

_HEADER = ["image", "label", "probability", "cosine", "logit"]
_NONE = "(none of these)"


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Classify the images that the arguments name; returns how many failed."""
    _output.check_format(arguments.format, _output.TABULAR)
    labels = _labels(arguments)
    images = _sources.find_images(arguments.images)
    result = client.classify(
        [image.item for image in images],
        labels,
        label_set=arguments.label_set,
        template=arguments.template,
        top_k=arguments.top_k,
        threshold=arguments.threshold,
        min_cosine=arguments.min_cosine,
        on_error="return",
        on_truncation=arguments.on_truncation,
        progress=_output.show_progress(len(images)),
    )
    _output.write_text(_render(arguments.format, [image.name for image in images], result), arguments.output)
    return _output.report_failures(result.errors, [image.name for image in images])


def _labels(arguments: argparse.Namespace) -> list[str] | None:
    """The labels given; None for a label set, which may not be given beside them."""
    labels = [label.strip() for label in (arguments.labels or "").split(",") if label.strip()]
    if arguments.labels_from:
        labels += _sources.read_lines(arguments.labels_from)
    if bool(labels) == (arguments.label_set is not None):
        raise UsageError("give the labels: --labels cat,dog or --labels-from FILE, or else --label-set NAME")
    return labels or None


def _render(format_: str, names: list[str], result: Classifications) -> str:
    if format_ == "json":
        return _output.to_json(
            [
                {"image": name, "error": str(result.errors[index])}
                if index in result.errors
                else {
                    "image": name,
                    "activation": result.activation,
                    "predictions": [asdict(prediction) for prediction in result[index]],
                }
                for index, name in enumerate(names)
            ]
        )
    rows: list[list[object]] = []
    for index, name in enumerate(names):
        if index not in result.errors:
            rows += [[name, best.label, best.probability, best.cosine, best.logit] for best in result[index]] or [
                [name, _NONE, "", "", ""]
            ]
    if format_ == "csv":
        return _output.to_csv([*_HEADER, "activation"], [[*row, result.activation] for row in rows])
    image, label, probability, *others = _HEADER
    return _output.to_table([image, label, f"{probability} ({result.activation})", *others], rows)
