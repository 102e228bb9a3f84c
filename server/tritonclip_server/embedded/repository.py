"""What the launcher asks of a served repository, before a server takes a minute to say that it is none."""

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.repository.check import NotServable, read_deployed
from tritonclip_server.repository.configs import CONFIG, read_config

HOW_TO_PUBLISH = "publish one with `tritonclip-server export VARIANT --host cpu`"


def check_repository(folder: Path) -> dict[str, Any]:
    """The repository's manifest; RepositoryProblem, in one line, where it cannot be served."""
    if not folder.is_dir():
        raise RepositoryProblem(f"{folder}: no such folder; {HOW_TO_PUBLISH}")
    try:
        return read_deployed(folder)
    except NotServable as error:
        raise RepositoryProblem(f"{folder}: {error}") from error


def encoder_queue(folder: Path) -> int:
    """How many requests may wait for the image encoder of a served repository."""
    path = folder / "image_encoder" / CONFIG
    try:
        config = read_config(path)
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryProblem(f"{path}: no readable configuration ({error}); {HOW_TO_PUBLISH}") from error
    return int(config.dynamic_batching.default_queue_policy.max_queue_size)
