"""What a manifest says of a checkpoint, and the fingerprint of everything that changes a vector."""

import importlib.metadata
from dataclasses import asdict
from typing import Any

from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.configs import Deployment
from tritonclip_server.repository.manifest import json_digest

FORMAT = 2  # of the artifacts: raised when the exporter's own code changes the vectors of the same weights
FINGERPRINT_HEX_DIGITS = 16
PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "tokenizers", "pillow")


def build_manifest(
    checkpoint: Checkpoint, deployment: Deployment, *, precision: str, tokenizer_digest: str, max_batch_size: int
) -> dict[str, Any]:
    """The manifest as a JSON-ready dictionary."""
    preprocessing = asdict(checkpoint.preprocessing)
    strips = deployment.tokenizer.stripped_id
    stripped = {} if strips is None else {"stripped_id": strips}  # left out elsewhere: fingerprints stay what they were
    vectors = {  # all that a feature depends on
        "architecture": checkpoint.variant.architecture,
        "weights_sha256": checkpoint.weights_digest(),
        "precision": precision,
        **preprocessing,
        "clean": deployment.tokenizer.clean,
        "context_length": deployment.tokenizer.context_length,
        "tokenizer_sha256": tokenizer_digest,
        **stripped,
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
        "fingerprint": json_digest(vectors)[:FINGERPRINT_HEX_DIGITS],
    }
