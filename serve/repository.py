"""Whether a folder is a served repository, before a server takes a minute to say that it is not."""

import json
from pathlib import Path
from typing import Any

from serve.errors import RepositoryProblem

HOW_TO_PUBLISH = "publish one with `python -m export VARIANT --host cpu`"
ARTIFACTS = (
    "image_encoder/1/model.pt",
    "text_encoder/1/model.pt",
    "similarity/1/model.pt",
    "text_tokenize/1/tokenizer.json",
)


def check_repository(folder: Path) -> dict[str, Any]:
    """The repository's manifest; RepositoryProblem where the folder, the manifest or an artifact is missing."""
    if not folder.is_dir():
        raise RepositoryProblem(f"{folder}: no such folder; {HOW_TO_PUBLISH}")
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RepositoryProblem(
            f"{folder}: no readable manifest.json, so it is no served repository; {HOW_TO_PUBLISH}"
        ) from error
    missing = [name for name in ARTIFACTS if not (folder / name).is_file()]
    if missing:
        raise RepositoryProblem(f"{folder}: {', '.join(missing)} missing; {HOW_TO_PUBLISH}")
    return manifest
