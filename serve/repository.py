"""Whether a folder is a served repository, before a server takes a minute to say that it is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serve.errors import RepositoryProblem

HOW_TO_PUBLISH = "publish one with `python -m export VARIANT --host cpu`"
ARTIFACTS = (
    "image_encoder/1/model.pt",
    "text_encoder/1/model.pt",
    "similarity/1/model.pt",
    "text_tokenize/1/tokenizer.json",
)


def check_repository(folder: Path) -> dict[str, Any]:
    """The repository's manifest; RepositoryProblem where the folder, the manifest or an artifact is missing.

    Also where a label set was made for another encoder. The `manifest` model refuses that too, in whatever Triton; here
    it is one line before anything starts.
    """
    if not folder.is_dir():
        raise RepositoryProblem(f"{folder}: no such folder; {HOW_TO_PUBLISH}")
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RepositoryProblem(
            f"{folder}: no readable manifest.json, so it is no served repository; {HOW_TO_PUBLISH}"
        ) from error
    label_sets = dict(_label_sets(folder))
    artifacts = [*ARTIFACTS, *(f"{head}/1/model.pt" for head in label_sets)]
    missing = [name for name in artifacts if not (folder / name).is_file()]
    if missing:
        raise RepositoryProblem(f"{folder}: {', '.join(missing)} missing; {HOW_TO_PUBLISH}")
    strangers = [head for head, fingerprint in label_sets.items() if fingerprint != manifest.get("fingerprint")]
    if strangers:
        raise RepositoryProblem(
            f"{folder}: {', '.join(strangers)} made for another encoder than the one deployed; make label sets again "
            "with `python -m export labels`, or remove their folders"
        )
    return manifest


def encoder_queue(folder: Path) -> int:
    """How many requests may wait for the image encoder of a served repository."""
    path = folder / "image_encoder" / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryProblem(f"{path}: no readable configuration ({error}); {HOW_TO_PUBLISH}") from error
    return int(config.dynamic_batching.default_queue_policy.max_queue_size)


def _label_sets(folder: Path) -> Iterator[tuple[str, str | None]]:
    """The fingerprint that each head was made for, by its folder; None where nothing tells."""
    for head in sorted(folder.glob("head_*")):
        try:
            yield head.name, json.loads((head / "1" / "label_set.json").read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, KeyError):
            yield head.name, None
