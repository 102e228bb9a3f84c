"""manifest.json: what is deployed, with a digest of every artifact and of itself."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tritonclip.protocol import qualified

MANIFEST = "manifest.json"
ARTIFACTS = (
    "image_encoder/1/model.pt",
    "text_encoder/1/model.pt",
    "similarity/1/model.pt",
    "text_tokenize/1/tokenizer.json",
)  # what the exporter makes; model_repository/manifest compares them with their digests before a server is ready
CODE = "*/1/*.py"  # what it copies, and nobody edits there; configs are the operator's to tune
NAME = "model"  # the entry with the name that its models have in front of theirs; where there is none, they have none
SEAL = "manifest_sha256"  # of the other entries, as JSON with sorted keys


def digest_artifacts(repository: Path, name: str | None) -> dict[str, str]:
    """The SHA-256 of every artifact of a repository that goes by a name and of its code, by its path in there."""
    code = sorted(path.relative_to(repository).as_posix() for path in repository.glob(CODE))
    return {path: file_digest(repository / path) for path in (*(qualified(each, name) for each in ARTIFACTS), *code)}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(repository: Path) -> bool:
    """Whether the artifacts of a served repository are the very files that its manifest was written for."""
    manifest = read_manifest(repository)
    try:
        return manifest is not None and manifest.get("artifacts") == digest_artifacts(repository, manifest.get(NAME))
    except OSError:
        return False


def write_manifest(manifest: dict[str, Any], repository: Path) -> None:
    """Write manifest.json into a served repository, with a digest of the rest of itself."""
    entries = {key: value for key, value in manifest.items() if key != SEAL}
    sealed = entries | {SEAL: json_digest(entries)}
    (repository / MANIFEST).write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def read_manifest(repository: Path) -> dict[str, Any] | None:
    """The manifest of a served repository, or None where there is none that can be read."""
    try:
        manifest = json.loads((repository / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def name_of(repository: Path) -> str | None:
    """The name by which a repository was published; None for one that has none, or no manifest yet."""
    name: str | None = (read_manifest(repository) or {}).get(NAME)
    return name


def model_folder(repository: Path, model: str) -> Path:
    """Where a served repository has one of its models, by whatever name it was published."""
    return repository / qualified(model, name_of(repository))


def json_digest(value: dict[str, Any]) -> str:
    """The SHA-256 of a document as JSON with sorted keys, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
