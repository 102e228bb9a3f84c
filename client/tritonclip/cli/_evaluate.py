"""``tritonclip evaluate``: how good the deployed model is on a data set, as a report.

    DATA ──tritonclip.evaluation──> a result ──> a Report ──_report──> standard output, and each --report FILE

What could not be scored is named on standard error, and in the report in all formats but the table.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tritonclip._client import Client
from tritonclip._manifest import LabelSet, Manifest
from tritonclip.cli import _output
from tritonclip.cli._report import FORMATS, Measure, Report, Table, percent, report_format
from tritonclip.cli._usage import UsageError
from tritonclip.evaluation import (
    ClassificationResult,
    evaluate_classification,
    evaluate_retrieval,
    published_figures,
    read_captioned,
    read_labelled,
)

_TOPS = (1, 5)
_RECALLS = (1, 5, 10)


def run_classification(arguments: argparse.Namespace, client: Client) -> int:
    """Evaluate classification by a label set; returns how many images could not be scored."""
    _check_outputs(arguments)
    manifest = client.manifest()
    label_set = manifest.label_set(arguments.label_set)
    data = read_labelled(arguments.data, label_set, arguments.class_map)
    progress = _output.show_progress(len(data.images))
    result = evaluate_classification(client, data.images, label_set.name, resume=arguments.resume, progress=progress)
    facts = {
        "label_set": label_set.name,
        "kind": label_set.kind,
        "labels": label_set.labels,
        "templates": len(label_set.templates),
        "classes_matched_by": data.matching,
        "images": len(data.images),
        "scored": len(result.answers),
        "not_scored": len(result.failures),
        "resumed": result.resumed,
        "images_per_second": result.images_per_second,
    }
    measures = [Measure(f"top-{k}", result.top(k)) for k in _TOPS] if result.answers else []
    names = _unique_names(label_set)
    tables = [_class_table(result, names), _confusion_table(result, names)]
    notes = _repeats(label_set, names)
    title = "Zero-shot classification" if label_set.kind == "zero-shot" else "Classification by a trained head"
    report = Report(title, facts, measures, tables, result.failures, notes)
    return _finish(report, manifest, arguments)


def run_retrieval(arguments: argparse.Namespace, client: Client) -> int:
    """Evaluate retrieval; returns how many images and captions could not be scored."""
    _check_outputs(arguments)
    manifest = client.manifest()
    data = read_captioned(arguments.data, arguments.captions, arguments.split)
    result = evaluate_retrieval(client, data, progress=_output.show_progress(len(data.captions)))
    facts = {
        "images": len(data.names),
        "captions": len(data.captions),
        "not_scored": len(result.failures),
        "seconds_to_embed": result.seconds,
    }
    measures = []
    if result.scored:
        measures = [Measure(f"text-to-image recall@{k}", result.recall_text_to_image(k)) for k in _RECALLS]
        measures += [Measure(f"image-to-text recall@{k}", result.recall_image_to_text(k)) for k in _RECALLS]
    return _finish(Report("Retrieval", facts, measures, failures=result.failures), manifest, arguments)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Complain at once of what would otherwise come to light when all the work is done."""
    _output.check_format(arguments.format, FORMATS)
    for path in filter(None, [arguments.output, *arguments.report]):
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{path}: there is no such folder to write it to")
    for path in arguments.report:
        report_format(path)


def _finish(report: Report, manifest: Manifest, arguments: argparse.Namespace) -> int:
    """Complete the report with what all have, and write it; returns how many items failed."""
    _output.report_failures(dict(enumerate(report.failures.values())), list(report.failures))
    if not report.measures:
        print(f"tritonclip: {arguments.data}: nothing could be scored", file=sys.stderr)
        return len(report.failures)
    if arguments.dataset is not None:
        report = _beside_published(report, manifest, arguments.dataset)
    if manifest.random_weights:
        report = replace(report, notes=["*** RANDOM WEIGHTS: these figures mean nothing ***", *report.notes])
    model = {name: getattr(manifest, name) for name in ("variant", "image_size", "precision", "fingerprint")}
    report = replace(
        report,
        title=f"{report.title}: {manifest.variant}",
        facts={**model, "data_set": str(arguments.data), **report.facts},
    )
    _output.write_text(report.render(arguments.format), arguments.output)
    for path in arguments.report:
        _output.write_text(report.render(report_format(path)), path)
    return len(report.failures)


def _beside_published(report: Report, manifest: Manifest, dataset: str) -> Report:
    published = published_figures(manifest, dataset)
    notes = [f"Published: {published.note}.", *report.notes]
    images = report.facts["images"]
    if published.images is not None and images != published.images:
        notes.insert(1, f"The published figures are over {published.images} images of {dataset}, these over {images}.")
    measures = [replace(measure, published=published.percent.get(measure.name)) for measure in report.measures]
    return replace(report, measures=measures, notes=notes)


def _class_table(result: ClassificationResult, names: Sequence[str]) -> Table:
    header = ("label", "images", "top-1", "low", "high", "top-5")
    rows = [
        [
            names[entry.label],
            entry.top1.trials,
            *map(percent, (entry.top1.value, entry.top1.low, entry.top1.high, entry.top5.value)),
        ]
        for entry in result.classes
    ]
    return Table("classes", "Classes, the worst first", header, rows)


def _confusion_table(result: ClassificationResult, names: Sequence[str]) -> Table:
    header = ("label", "taken for", "images", "of", "percent")
    rows = [
        [
            names[entry.label],
            names[entry.predicted],
            entry.images.successes,
            entry.images.trials,
            percent(entry.images.value),
        ]
        for entry in result.confusions
    ]
    return Table("confusions", "Confused most often", header, rows)


def _unique_names(label_set: LabelSet) -> list[str]:
    """The labels' names by index, with the index where several are called the same."""
    counts = Counter(label_set.names)
    return [f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(label_set.names)]


def _repeats(label_set: LabelSet, names: Sequence[str]) -> list[str]:
    repeated = [unique for unique, name in zip(names, label_set.names, strict=True) if unique != name]
    if not repeated:
        return []
    return [
        f"Labels that share a name: {', '.join(repeated)}. Each is a class of its own here, as in published figures: "
        "the other one counts as wrong."
    ]
