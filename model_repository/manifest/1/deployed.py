"""What is deployed in a served repository, checked before anybody is answered. Nothing here knows Triton.

This file stands alone, on the standard library: it runs where nothing of tritonclip is installed. The exporter writes
what it reads (`tritonclip_server.repository`), and tests hold the two together.

manifest.json ──artifacts: path, SHA-256──> all weights and code ─┐
head_NAME: label_set.json, labels.txt, model.pt ──────────────────┴──> one document, or NotServable

A file that was damaged on a disk or in a copy mostly loads all the same, and then answers with plausible wrong vectors.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

ARTIFACTS = (
    "image_encoder/1/model.pt",
    "text_encoder/1/model.pt",
    "similarity/1/model.pt",
    "text_tokenize/1/tokenizer.json",
)
"""What every manifest has a digest of."""

KINDS: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str) and value != "",
    "true or false": lambda value: isinstance(value, bool),
    "a whole number above 0": lambda value: type(value) is int and value > 0,
    "a finite number": lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
    "a finite number or null": lambda value: value is None or KINDS["a finite number"](value),
    "a list of texts": lambda value: isinstance(value, list) and all(map(KINDS["a text"], value)) and value != [],
    "an object of paths and digests": lambda value: (
        isinstance(value, dict) and all(map(_is_inside, value)) and all(map(KINDS["a text"], value.values()))
    ),
}
MANIFEST = {
    "variant": "a text",
    "fingerprint": "a text",
    "precision": "a text",
    "host": "a text",
    "random_weights": "true or false",
    "image_size": "a whole number above 0",
    "context_length": "a whole number above 0",
    "embedding_width": "a whole number above 0",
    "max_batch_size": "a whole number above 0",
    "logit_scale": "a finite number",
    "logit_bias": "a finite number or null",
    "artifacts": "an object of paths and digests",
}
LABEL_SET = {
    "name": "a text",
    "fingerprint": "a text",
    "labels": "a list of texts",
    "templates": "a list of texts",
    "model_sha256": "a text",
}
SEAL = "manifest_sha256"
PUBLISH = "publish it again with `tritonclip-server export VARIANT`"
MAKE = "make it again with `tritonclip-server labels`, or remove its folders"


class NotServable(Exception):
    """The repository cannot be served as it is; the message names the file and says what to do."""


def read_deployed(repository: Path) -> dict[str, Any]:
    """The manifest with `label_sets`: by name, how many labels, their names in order, and the templates.

    Raises NotServable where the manifest or the record of a label set is missing, broken or of another encoder, and
    where a file of weights or of code is not the one that was published.
    """
    manifest = _read_json(repository, "manifest.json", MANIFEST, PUBLISH)
    _check_digests(repository, dict.fromkeys(ARTIFACTS, "") | manifest["artifacts"], PUBLISH)
    _check_seal(manifest)
    heads = sorted(folder.name for folder in repository.glob("head_*"))
    label_sets = [_read_label_set(repository, head, manifest["fingerprint"]) for head in heads]
    manifest["label_sets"] = {
        record["name"]: {"labels": len(record["labels"]), "names": record["labels"], "templates": record["templates"]}
        for record in label_sets
    }
    return manifest


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_label_set(repository: Path, head: str, fingerprint: str) -> dict[str, Any]:
    record = _read_json(repository, f"{head}/1/label_set.json", LABEL_SET, f"{head}: {MAKE}")
    name, made_for = record["name"], record["fingerprint"]
    if head != f"head_{name}":
        raise NotServable(f"{head} holds the label set {name}: {MAKE}")
    if made_for != fingerprint:
        raise NotServable(f"{head} was made for another encoder, {made_for}; the one here is {fingerprint}: {MAKE}")
    _check_digests(repository, {f"{head}/1/model.pt": record["model_sha256"]}, MAKE)
    expected = "".join(f"{label}\n" for label in record["labels"]).encode()
    for file in (f"{head}/labels.txt", f"classify_{name}/labels.txt"):
        path = repository / file
        if not path.is_file() or path.read_bytes() != expected:
            raise NotServable(f"{file} does not hold the labels of {head}: {MAKE}")
    return record


def _read_json(repository: Path, name: str, fields: Mapping[str, str], remedy: str) -> dict[str, Any]:
    """A JSON document whose fields are of these kinds."""
    try:
        document = json.loads((repository / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise NotServable(f"no readable {name} ({reason}): {remedy}") from error
    if not isinstance(document, dict):
        raise NotServable(f"no readable {name} (not a JSON object): {remedy}")
    for key, kind in fields.items():
        if key not in document:
            raise NotServable(f"{name}: {key} is missing: {remedy}")
        if not KINDS[kind](document[key]):
            raise NotServable(f"{name}: {key} is not {kind}: {remedy}")
    return document


def _check_seal(manifest: Mapping[str, Any]) -> None:
    """Refuse entries that were changed; a changed scale is a wrong probability. Older manifests have no seal."""
    entries = {key: value for key, value in manifest.items() if key != SEAL}
    found = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    if manifest.get(SEAL, found) != found:
        raise NotServable(f"manifest.json is damaged, or was edited (SHA-256 {found}): {PUBLISH}")


def _check_digests(repository: Path, digests: Mapping[str, str], remedy: str) -> None:
    missing = [name for name in digests if not (repository / name).is_file()]
    if missing:
        raise NotServable(f"{', '.join(missing)} missing: {remedy}")
    for name, digest in digests.items():
        if not digest:
            raise NotServable(f"manifest.json has no digest of {name}: {remedy}")
        try:
            found = file_digest(repository / name)
        except OSError as error:
            raise NotServable(f"{name} cannot be read ({error.strerror})") from error
        if found != digest:
            raise NotServable(f"{name} is damaged, or not the file that was published (SHA-256 {found}): {remedy}")


def _is_inside(name: str) -> bool:
    """Whether a path stays inside the repository."""
    return not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
