"""What the launcher asks of served repositories, before a server takes a minute to say that there are none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.embedded.repository_folders import repositories_in
from tritonclip_server.repository.check import NotServable, read_deployed
from tritonclip_server.repository.configs import CONFIG, read_config
from tritonclip_server.repository.manifest import NAME, model_folder

HOW_TO_PUBLISH = "publish one with `tritonclip-server export VARIANT --host cpu`"


@dataclass(frozen=True)
class Deployed:
    """A served repository that was found in order, with its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str | None:
        """The name by which clients ask for it; None where they need none."""
        name: str | None = self.manifest.get(NAME)
        return name

    def at(self, url: str) -> str:
        """How a client is told of it, on the server at this URL."""
        return url if self.name is None else f"{url}?model={self.name}"


def check_repository(folder: Path) -> dict[str, Any]:
    """The repository's manifest; RepositoryProblem, in one line, where it cannot be served."""
    if not folder.is_dir():
        raise RepositoryProblem(f"{folder}: no such folder; {HOW_TO_PUBLISH}")
    try:
        return read_deployed(folder)
    except NotServable as error:
        raise RepositoryProblem(f"{folder}: {error}") from error


def check_repositories(folder: Path) -> list[Deployed]:
    """The served repositories of a folder, which is one or holds some; RepositoryProblem where one cannot be served.

    Also where two of them go by the same name: Triton would load neither.
    """
    found: dict[str | None, Deployed] = {}
    for repository in repositories_in(folder):
        deployed = Deployed(repository, check_repository(repository))
        if (other := found.setdefault(deployed.name, deployed)) is not deployed:
            shared = "have no name" if deployed.name is None else f"go by the name {deployed.name}"
            raise RepositoryProblem(
                f"{other.folder} and {repository} both {shared}, and one Triton cannot tell them apart: publish one of "
                "them by another, with `tritonclip-server export VARIANT --model NAME`"
            )
    return [*found.values()]


def model_names(served: Sequence[Deployed]) -> list[str]:
    """What a gateway calls each of them: by its name, else by its variant; "" where there is one alone.

    RepositoryProblem where two would be called the same.
    """
    if len(served) == 1:
        return [""]
    names: dict[str, Path] = {}
    for deployed in served:
        name = str(deployed.name or deployed.manifest.get("variant") or deployed.folder.name)
        if name in names:
            raise RepositoryProblem(f"{names[name]} and {deployed.folder} are both of {name}: serve one of them")
        names[name] = deployed.folder
    return [*names]


def encoder_queue(folder: Path) -> int:
    """How many requests may wait for the image encoder of a served repository."""
    path = model_folder(folder, "image_encoder") / CONFIG
    try:
        config = read_config(path)
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryProblem(f"{path}: no readable configuration ({error}); {HOW_TO_PUBLISH}") from error
    return int(config.dynamic_batching.default_queue_policy.max_queue_size)
