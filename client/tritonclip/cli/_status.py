"""``tritonclip status``: what the server runs, and how well it batches."""

import argparse
import sys
from dataclasses import asdict
from typing import Any

from tritonclip._client import Client
from tritonclip._manifest import LabelSet
from tritonclip._results import Status
from tritonclip.cli import _output

_STATISTICS = ["model", "items", "executions", "mean batch", "queue ms", "compute ms"]
_FACTS = (
    "variant", "architecture", "pretrained", "precision", "image_size", "embedding_width", "activation", "fingerprint",
)  # fmt: skip


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Show the server's status; returns how many of its models are not ready."""
    _output.check_format(arguments.format, _output.TABULAR)
    status = client.status()
    if arguments.format == "json":
        text = _output.to_json(_document(status))
    elif arguments.format == "csv":
        if status.statistics is None:
            print(f"tritonclip: {status.statistics_note}", file=sys.stderr)
        text = _output.to_csv(_STATISTICS, _statistics(status))
    else:
        text = _render(status)
    _output.write_text(text, arguments.output)
    return sum(not ready for ready in status.models.values())


def _document(status: Status) -> dict[str, Any]:
    statistics = status.statistics
    return {
        "url": status.url,
        "server": {"name": status.server_name, "version": status.server_version},
        "models": status.models,
        "manifest": None if status.manifest is None else dict(status.manifest.raw),
        "activation": None if status.manifest is None else status.manifest.activation,
        "statistics": statistics and [asdict(entry) | {"mean_batch": entry.mean_batch} for entry in statistics],
        "statistics_note": status.statistics_note,
    }


def _render(status: Status) -> str:
    facts: list[tuple[str, object]] = [
        ("server", f"{status.server_name} {status.server_version} at {status.url}"),
        ("ready", " ".join(name for name, ready in status.models.items() if ready) or "none"),
    ]
    if missing := [name for name, ready in status.models.items() if not ready]:
        facts.append(("NOT READY", " ".join(missing)))
    manifest = status.manifest
    if manifest is None:
        facts.append(("manifest", "none: the models' names and limits are taken for granted"))
    else:
        facts += [(name.replace("_", " "), getattr(manifest, name)) for name in _FACTS]
        facts += [("label set", _described(entry)) for entry in manifest.label_sets.values()]
    lines = [f"{name:<16} {value}" for name, value in facts if value is not None]
    if manifest is not None and manifest.random_weights:
        lines.insert(0, "*** RANDOM WEIGHTS: this server's vectors and scores mean nothing ***")
    if status.statistics is None:
        lines += ["", status.statistics_note or "no statistics"]
    else:
        lines += ["", _output.to_table(_STATISTICS, _statistics(status)).rstrip()]
    return "\n".join(lines) + "\n"


def _described(label_set: LabelSet) -> str:
    trained = ", trained" if label_set.kind == "trained" else ""
    limit = "" if label_set.threshold is None else f", none of these below {label_set.threshold:g}"
    return f"{label_set.name}, {label_set.labels} labels{trained}, {label_set.activation}{limit}"


def _statistics(status: Status) -> list[list[object]]:
    return [
        [entry.name, entry.inference_count, entry.execution_count, entry.mean_batch, entry.queue_ms, entry.compute_ms]
        for entry in status.statistics or ()
    ]
