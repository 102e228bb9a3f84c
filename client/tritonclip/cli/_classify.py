"""``tritonclip classify``: labels for images, the best first."""

import argparse
from dataclasses import asdict

from tritonclip._client import Client
from tritonclip.cli import _output, _sources
from tritonclip.cli._usage import UsageError

_HEADER = ["image", "label", "probability", "cosine", "logit"]


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Classify the images that the arguments name; returns how many failed."""
    _output.refuse_npy(arguments.format)
    labels = [label.strip() for label in (arguments.labels or "").split(",") if label.strip()]
    if arguments.labels_from:
        labels += _sources.read_lines(arguments.labels_from)
    if not labels:
        raise UsageError("give the labels: --labels cat,dog or --labels-from FILE")
    images = _sources.find_images(arguments.images)
    result = client.classify(
        [image.item for image in images],
        labels,
        template=arguments.template,
        top_k=arguments.top_k,
        on_error="return",
        progress=_output.show_progress(len(images)),
    )
    if arguments.format == "json":
        text = _output.to_json(
            [
                {"image": image.name, "error": str(result.errors[index])}
                if index in result.errors
                else {"image": image.name, "predictions": [asdict(prediction) for prediction in result[index]]}
                for index, image in enumerate(images)
            ]
        )
    else:
        rows = [
            [image.name, prediction.label, prediction.probability, prediction.cosine, prediction.logit]
            for image, predictions in zip(images, result, strict=True)
            for prediction in predictions
        ]
        text = _output.to_csv(_HEADER, rows) if arguments.format == "csv" else _output.to_table(_HEADER, rows)
    _output.write_text(text, arguments.output)
    return _output.report_failures(result.errors, [image.name for image in images])
