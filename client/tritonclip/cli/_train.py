"""``tritonclip train``: a classifier of one's own classes, from labelled images, with a report of what it gained.

    DATA ──tritonclip.training──> a Training ──> OUTPUT/head.safetensors, report.json, report.md, report.png, wrong.png
                                         └──> the report on standard output

Images that could not be embedded, or were left out, are named on standard error and in the written reports.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._manifest import Manifest
from tritonclip.cli import _output
from tritonclip.cli._extras import open_training
from tritonclip.cli._report import FORMATS, Measure, Report, Table, percent
from tritonclip.cli._usage import UsageError

if TYPE_CHECKING:
    from tritonclip.training import Texts, Training

CACHE: Final = "features"
_LISTED: Final = 10  # of images left out, on standard error; the written reports have all


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Train a head and write it with its report into a folder; returns how many images could not be embedded."""
    _output.check_format(arguments.format, FORMATS)
    folder = _check(arguments)
    training = open_training()
    manifest = client.manifest()
    cache = arguments.cache or folder / CACHE
    _note_other_models(training.other_models(cache, manifest.fingerprint), cache)
    found = training.train_head(
        client,
        arguments.data,
        arguments.name,
        cache=cache,
        texts=_texts(arguments, manifest),
        test=arguments.test,
        test_share=arguments.test_share if arguments.test_share is not None else _defaults.TEST_SHARE,
        seed=arguments.seed,
        progress=sys.stderr.isatty(),
    )
    report = _report(found, manifest, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    found.head.write(folder)
    (folder / "report.md").write_text(report.render("markdown"), encoding="utf-8", errors="backslashreplace")
    (folder / "report.json").write_text(report.render("json"), encoding="utf-8", errors="backslashreplace")
    training.draw_report(found, folder / "report.png")
    training.draw_wrong(found, folder / "wrong.png")
    _name_left_out(found)
    _output.write_text(report.render(arguments.format), None)
    print(f"tritonclip: wrote {folder}; serve it: tritonclip-server head {folder} --repository DIR", file=sys.stderr)
    return len(found.failures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``tritonclip train``."""
    parser.epilog = "--output FOLDER gets the head, its report as JSON, Markdown and PNG, and the wrong images."
    add = parser.add_argument
    data = "a folder with a folder for each class, or a CSV file with the columns path,label"
    add("data", type=Path, metavar="DATA", help=f"labelled images: {data}")
    add("--name", required=True, help="of the head, as clients ask for it: lower-case letters, digits, - and _")
    add("--label-set", metavar="NAME", help="start from a label set that is stored on the server")
    add("--labels", type=Path, metavar="FILE", help="start from the texts of these labels, one on each line")
    add(
        "--templates",
        type=Path,
        metavar="FILE",
        help=f"sentences that the labels are put into, one on each line with {{}} (default: {_defaults.TEMPLATE!r})",
    )
    add("--test", type=Path, metavar="DATA", help="other labelled images to test on, instead of a share of DATA")
    add(
        "--test-share",
        type=float,
        metavar="SHARE",
        help=f"of each class, held back to test on (default: {_defaults.TEST_SHARE})",
    )
    add(
        "--cache", type=Path, metavar="DIR", help=f"keeps the images' vectors (default: {CACHE} in the output's folder)"
    )
    add("--seed", type=int, default=0, metavar="N", help="decides which images are tested on (default: %(default)s)")


def _check(arguments: argparse.Namespace) -> Path:
    """Complain of what makes no sense together; returns the output's folder."""
    if arguments.output is None:
        raise UsageError("give --output FOLDER: the head and its report are written there")
    if arguments.labels is not None and arguments.label_set is not None:
        raise UsageError("--labels and --label-set both say which texts to start from: give one of them")
    if arguments.templates is not None and arguments.labels is None:
        raise UsageError("--templates goes with --labels; a label set has its own")
    if arguments.test is not None and arguments.test_share is not None:
        raise UsageError("--test and --test-share both say what to test on: give one of them")
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: that is a file, and a folder is written")
    return folder


def _texts(arguments: argparse.Namespace, manifest: Manifest) -> "Texts | None":
    from tritonclip.training import read_texts, texts_of_label_set

    if arguments.label_set is not None:
        return texts_of_label_set(manifest, arguments.label_set)
    return read_texts(arguments.labels, arguments.templates) if arguments.labels is not None else None


def _report(found: "Training", manifest: Manifest, arguments: argparse.Namespace) -> Report:
    head, measured = found.head, found.measured
    made = head.made
    facts = {
        "variant": manifest.variant,
        "fingerprint": head.fingerprint,
        "data_set": str(arguments.data),
        "labels": len(head.labels),
        "texts": made["texts"]["labels"] if made["texts"] else "none",
        "trained_on": found.trained_on,
        "tested_on": len(found.tested),
        "not_embedded": len(found.failures),
        "left_out": len(found.repeated) + len(found.common),
        "from_the_cache": found.cached,
        "strength": f"{measured.fit.strength:.2g}",
        "temperature": head.temperature,
        "threshold": head.threshold,
        "seed": arguments.seed,
        "seconds": found.seconds,
    }
    measures = [Measure("top-1", measured.scores.accuracy)]
    if measured.zero_shot is not None:
        measures.append(Measure("zero-shot top-1", measured.zero_shot.accuracy))
    tables = [_gain(found), _rejection(found), _curve(found), _calibration(found), _trials(found)]
    report = Report(
        f"Trained head {head.name}: {manifest.variant}",
        facts,
        measures,
        [*tables, _classes(found), _confusions(found)],
        found.failures,
        _notes(found),
    )
    if manifest.random_weights:
        report = replace(report, notes=["*** RANDOM WEIGHTS: these figures mean nothing ***", *report.notes])
    return report


def _gain(found: "Training") -> Table:
    header = ("difference in points", "low", "high", "both right", "zero-shot alone", "head alone", "neither")
    gain = found.measured.gain
    rows = []
    if gain is not None:
        counts = (gain.both, gain.first, gain.second, gain.neither)
        rows = [[*map(percent, (gain.value, gain.low, gain.high)), *counts]]
    return Table("gain", "The head minus zero-shot, on the same images", header, rows)


def _rejection(found: "Training") -> Table:
    rejection = found.measured.rejection
    rows = []
    if rejection is not None:
        shares = {
            "right answers below it": rejection.lost,
            "wrong answers below it": rejection.caught,
            "images of classes it never saw above it": rejection.strangers,
        }
        rows = [
            [name, *map(percent, (share.value, share.low, share.high)), share.successes, share.trials]
            for name, share in shares.items()
            if share is not None
        ]
    title = f"None of these: below a probability of {found.head.threshold}"
    return Table("threshold_rates", title, ("what the threshold does", "percent", "low", "high", "images", "of"), rows)


def _curve(found: "Training") -> Table:
    rows = [
        [
            "all" if point.images_a_class is None else str(point.images_a_class),
            point.images,
            *map(percent, (point.accuracy.value, point.accuracy.low, point.accuracy.high)),
            f"{point.strength:.2g}",
        ]
        for point in found.measured.curve
    ]
    header = ("images a class", "images", "top-1", "low", "high", "strength")
    return Table("learning_curve", "What fewer images are worth", header, rows)


def _calibration(found: "Training") -> Table:
    calibration = found.measured.calibration
    row = [calibration.temperature, percent(calibration.before), percent(calibration.after)]
    header = ("temperature", "error before", "error after")
    return Table("calibration", "Expected calibration error, in points", header, [row])


def _trials(found: "Training") -> Table:
    fit = found.measured.fit
    rows = [
        [f"{each.strength:.2g}", each.cross_entropy, each.temperature, percent(each.accuracy)] for each in fit.trials
    ]
    header = ("strength", "cross-entropy", "temperature", "top-1")
    return Table("cross_validation", f"Strengths compared, by {fit.folds} folds of the training images", header, rows)


def _classes(found: "Training") -> Table:
    zero_shot = found.measured.zero_shot
    before = {entry.label: entry.top1.value for entry in zero_shot.classes} if zero_shot else {}
    rows = [
        [
            found.head.labels[entry.label],
            entry.top1.trials,
            *map(percent, (entry.top1.value, entry.top1.low, entry.top1.high)),
            *([percent(before[entry.label])] if before else []),
        ]
        for entry in found.measured.scores.classes
    ]
    header = ("label", "images", "top-1", "low", "high", *(["zero-shot"] if before else []))
    return Table("classes", "Classes, the worst first", header, rows)


def _confusions(found: "Training") -> Table:
    labels = found.head.labels
    rows = [
        [labels[each.label], labels[each.predicted], each.images.successes, each.images.trials]
        for each in found.measured.scores.confusions
    ]
    return Table("confusions", "Confused most often", ("label", "taken for", "images", "of"), rows)


def _notes(found: "Training") -> list[str]:
    notes = []
    if not found.measured.fit.trials:
        notes.append(
            "No class has two images to train on, so no strength could be compared and no temperature fitted: "
            "a usual strength was taken, and the probabilities are to be taken with care."
        )
    if found.head.threshold is None:
        notes.append("Too few images were right in cross-validation to propose a threshold for none of these.")
    return notes


def _name_left_out(found: "Training") -> None:
    _output.report_failures(dict(enumerate(found.failures.values())), list(found.failures))
    for paths, reason in (
        (found.repeated, "the same image is there already in another place; left out"),
        (found.common, "among the images trained on; left out of the test"),
    ):
        for path in paths[:_LISTED]:
            print(f"tritonclip: {path}: {reason}", file=sys.stderr)
        if len(paths) > _LISTED:
            print(f"tritonclip: … and {len(paths) - _LISTED} more", file=sys.stderr)


def _note_other_models(fingerprints: list[str], cache: Path) -> None:
    if fingerprints:
        names = ", ".join(fingerprints)
        print(f"tritonclip: {cache} also has vectors of other models, which are not used: {names}", file=sys.stderr)
