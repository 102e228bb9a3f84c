"""What is deployed in a served repository: its manifest.json, and the label sets beside it. Nothing here knows Triton.

manifest.json ──────────────────┐
head_NAME/1/label_set.json … ───┴──> one document; refused where a label set was made for another encoder
"""

import json
from pathlib import Path
from typing import Any


class NotServable(Exception):
    """The repository cannot be served as it is; the message says what to do."""


def read_deployed(repository: Path) -> dict[str, Any]:
    """The manifest with `label_sets`: by name, how many labels, their names in order, and the templates.

    Raises NotServable where there is no manifest, or a label set does not belong to its fingerprint.
    """
    path = repository / "manifest.json"
    if not path.is_file():
        raise NotServable("no manifest.json in this repository: publish one with `python -m export VARIANT`")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest["label_sets"] = {}
    for head in sorted(repository.glob("head_*")):
        label_set = _read_label_set(head)
        if label_set["fingerprint"] != manifest["fingerprint"]:
            raise NotServable(
                f"{head.name} was made for fingerprint {label_set['fingerprint']}, and the encoder here has "
                f"{manifest['fingerprint']}: make it again with `python -m export labels`, or remove its folders"
            )
        manifest["label_sets"][label_set["name"]] = {
            "labels": len(label_set["labels"]),
            "names": label_set["labels"],
            "templates": label_set["templates"],
        }
    return manifest


def _read_label_set(head: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((head / "1" / "label_set.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotServable(
            f"{head.name} has no readable label_set.json, so nothing tells which encoder it belongs to: make it again "
            "with `python -m export labels`, or remove its folders"
        ) from error
    return document
