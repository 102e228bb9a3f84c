"""manifest.json: what is deployed, and the fingerprint of everything that changes a vector."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.configs import Deployment

FORMAT = 2  # of the artifacts: raised when the exporter's own code changes the vectors of the same weights
FINGERPRINT_HEX_DIGITS = 16
ARTIFACTS = (
    "image_encoder/1/model.pt",
    "text_encoder/1/model.pt",
    "similarity/1/model.pt",
    "text_tokenize/1/tokenizer.json",
)  # what the exporter makes; model_repository/manifest compares them with their digests before a server is ready
CODE = "*/1/*.py"  # what it copies, and nobody edits there; configs are the operator's to tune
SEAL = "manifest_sha256"  # of the other entries, as JSON with sorted keys
PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "tokenizers", "pillow")


def build_manifest(
    checkpoint: Checkpoint, deployment: Deployment, *, precision: str, tokenizer_digest: str, max_batch_size: int
) -> dict[str, Any]:
    """The manifest as a JSON-ready dictionary."""
    preprocessing = asdict(checkpoint.preprocessing)
    vectors = {  # all that a feature depends on
        "architecture": checkpoint.variant.architecture,
        "weights_sha256": checkpoint.weights_digest(),
        "precision": precision,
        **preprocessing,
        "clean": deployment.clean,
        "context_length": deployment.context_length,
        "tokenizer_sha256": tokenizer_digest,
        "format": FORMAT,
    }
    return {
        "variant": checkpoint.variant.name,
        "pretrained": checkpoint.variant.pretrained,
        "random_weights": checkpoint.random_weights,
        **vectors,
        "embedding_width": deployment.embedding_width,
        "logit_scale": checkpoint.logit_scale,
        "logit_bias": checkpoint.logit_bias,
        "max_batch_size": max_batch_size,
        "host": deployment.host,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "fingerprint": _digest(vectors)[:FINGERPRINT_HEX_DIGITS],
    }


def digest_artifacts(repository: Path) -> dict[str, str]:
    """The SHA-256 of every artifact of a repository and of its models' code, by its path in there."""
    code = sorted(path.relative_to(repository).as_posix() for path in repository.glob(CODE))
    return {name: file_digest(repository / name) for name in (*ARTIFACTS, *code)}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(repository: Path) -> bool:
    """Whether the artifacts of a served repository are the very files that its manifest was written for."""
    manifest = read_manifest(repository)
    try:
        return manifest is not None and manifest.get("artifacts") == digest_artifacts(repository)
    except OSError:
        return False


def write_manifest(manifest: dict[str, Any], repository: Path) -> None:
    """Write manifest.json into a served repository, with a digest of the rest of itself."""
    entries = {key: value for key, value in manifest.items() if key != SEAL}
    sealed = entries | {SEAL: _digest(entries)}
    (repository / "manifest.json").write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def read_manifest(repository: Path) -> dict[str, Any] | None:
    """The manifest of a served repository, or None where there is none that can be read."""
    try:
        manifest = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
