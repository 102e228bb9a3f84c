"""Whether a folder is a served repository, before a server takes a minute to say that it is not."""

import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.resources import MODEL_REPOSITORY

# The check itself stands in the model repository, where Triton runs it too: in production nothing of ours runs before.
CHECK = MODEL_REPOSITORY / "manifest" / "1" / "deployed.py"
HOW_TO_PUBLISH = "publish one with `tritonclip-server export VARIANT --host cpu`"


def check_repository(folder: Path) -> dict[str, Any]:
    """The repository's manifest; RepositoryProblem where Triton's `manifest` model would refuse to load.

    That is where the manifest, an artifact or a label set is missing, broken, damaged or made for another encoder. Here
    it is one line before anything starts.
    """
    if not folder.is_dir():
        raise RepositoryProblem(f"{folder}: no such folder; {HOW_TO_PUBLISH}")
    deployed = _load_check()
    try:
        manifest: dict[str, Any] = deployed.read_deployed(folder)
    except deployed.NotServable as error:
        raise RepositoryProblem(f"{folder}: {error}") from error
    return manifest


def encoder_queue(folder: Path) -> int:
    """How many requests may wait for the image encoder of a served repository."""
    path = folder / "image_encoder" / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryProblem(f"{path}: no readable configuration ({error}); {HOW_TO_PUBLISH}") from error
    return int(config.dynamic_batching.default_queue_policy.max_queue_size)


def _load_check() -> Any:
    """The module; a model's folder is no package."""
    spec = importlib.util.spec_from_file_location("deployed", CHECK)
    if spec is None or spec.loader is None:
        raise RepositoryProblem(f"{CHECK} is missing: this installation is incomplete")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
