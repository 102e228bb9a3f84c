"""What is deployed in a served repository, checked before anybody is answered. Nothing here knows Triton.

This file stands alone, on the standard library: it runs where nothing of tritonclip is installed. The exporter writes
what it reads (`tritonclip_server.repository`), and tests hold the two together.

manifest.json ──artifacts: path, SHA-256──> all weights and code ─┐
head_NAME: label_set.json, labels; head_NAME.EDITION: model.pt ───┴──> one document with a revision, or NotServable

Where the manifest has a name for the model, as for one of several that a server carries, that stands before all these
folders' own: `vit.head_NAME`.

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
    "a list of texts or none": lambda value: value == [] or KINDS["a list of texts"](value),
    "a probability or null": lambda value: value is None or (KINDS["a finite number"](value) and 0 <= value <= 1),
    "zero-shot or trained": lambda value: value in ("zero-shot", "trained"),
    "a text or empty": lambda value: isinstance(value, str),
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
    "templates": "a list of texts or none",
    "model_sha256": "a text",
    "kind": "zero-shot or trained",
    "threshold": "a probability or null",
    "edition": "a text or empty",
}
DEFAULTS = {"kind": "zero-shot", "threshold": None, "edition": ""}
"""What a record of an older version does not say."""
SEAL = "manifest_sha256"
PUBLISH = "publish it again with `tritonclip-server export VARIANT`"
MAKE = "make it again with `tritonclip-server labels` or `head`, or remove its folders"


class NotServable(Exception):
    """The repository cannot be served as it is; the message names the file and says what to do."""


def read_deployed(repository: Path) -> dict[str, Any]:
    """The manifest with `label_sets` and a `revision`.

    `label_sets` has by name: how many labels, their names in order, the templates, the kind, the threshold that a
    trained one proposes, and its edition. `revision` is a digest of all of the document: another one, other answers.

    Raises NotServable where the manifest or the record of a label set is missing, broken or of another encoder, and
    where a file of weights or of code is not the one that was published.
    """
    manifest = _read_json(repository, "manifest.json", MANIFEST, PUBLISH)
    prefix = f"{manifest['model']}." if "model" in manifest else ""
    artifacts = dict.fromkeys((prefix + artifact for artifact in ARTIFACTS), "")
    _check_digests(repository, artifacts | manifest["artifacts"], PUBLISH)
    _check_seal(manifest)
    heads = [folder.name.removeprefix(prefix) for folder in sorted(repository.glob(f"{prefix}head_*"))]
    label_sets = [
        _read_label_set(repository, prefix, head, manifest["fingerprint"]) for head in heads if "." not in head
    ]
    manifest["label_sets"] = {record["name"]: _told(record) for record in label_sets}
    return manifest | {"revision": hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_label_set(repository: Path, prefix: str, own_head: str, fingerprint: str) -> dict[str, Any]:
    head = prefix + own_head
    record = _read_json(repository, f"{head}/1/label_set.json", LABEL_SET, f"{head}: {MAKE}", DEFAULTS)
    name, made_for, edition = record["name"], record["fingerprint"], record["edition"]
    if own_head != f"head_{name}":
        raise NotServable(f"{head} holds the label set {name}: {MAKE}")
    if record["kind"] == "zero-shot" and not record["templates"]:
        raise NotServable(f"{head}/1/label_set.json: templates is not a list of texts: {MAKE}")
    if made_for != fingerprint:
        raise NotServable(f"{head} was made for another encoder, {made_for}; the one here is {fingerprint}: {MAKE}")
    _check_digests(repository, {f"{prefix}{_weights(record)}/1/model.pt": record["model_sha256"]}, MAKE)
    expected = "".join(f"{label}\n" for label in record["labels"]).encode()
    labels = f"labels.{edition}.txt" if edition else "labels.txt"
    for file in (f"{head}/{labels}", f"{prefix}classify_{name}/{labels}"):
        path = repository / file
        if not path.is_file() or path.read_bytes() != expected:
            raise NotServable(f"{file} does not hold the labels of {head}: {MAKE}")
    return record


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """What clients learn of a label set."""
    same = {key: record[key] for key in ("templates", "kind", "threshold", "edition")}
    return {"labels": len(record["labels"]), "names": record["labels"], **same}


def _weights(record: Mapping[str, Any]) -> str:
    """The model with the weights of a label set; without an edition it is the head itself."""
    return f"head_{record['name']}.{record['edition']}" if record["edition"] else f"head_{record['name']}"


def _read_json(
    repository: Path, name: str, fields: Mapping[str, str], remedy: str, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A JSON document whose fields are of these kinds, with defaults for those that may be missing."""
    try:
        document = json.loads((repository / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise NotServable(f"no readable {name} ({reason}): {remedy}") from error
    if not isinstance(document, dict):
        raise NotServable(f"no readable {name} (not a JSON object): {remedy}")
    document = {**(defaults or {}), **document}
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
