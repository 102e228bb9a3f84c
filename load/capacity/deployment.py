"""What is measured: a server started here on a served repository, or one that is up already."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from load.core.knee import NotMeasurable
from tritonclip import Client, Manifest, TritonClipError
from tritonclip_server.embedded.server import Ports, Server
from tritonclip_server.export.publishing import link_or_copy
from tritonclip_server.repository.configs import CONFIG, read_config, write_config
from tritonclip_server.repository.manifest import model_folder

STAGES = {
    "image_preprocess": "decode and resize",
    "image_encoder": "image encoder",
    "text_gate": "text gate",
    "text_tokenize": "tokenise",
    "text_encoder": "text encoder",
    "similarity": "similarity",
}
"""The members of the ensembles that are measured, in the order of a request, as reports name them."""


@dataclass(frozen=True)
class Deployment:
    """A server that is up.

    `instances` says how many of each stage there are, as far as its repository is known: Triton closes its
    configuration to all but operators.
    """

    grpc_url: str
    manifest: Manifest
    instances: Mapping[str, int]


@dataclass(frozen=True)
class Embedded(Deployment):
    """One that was started here, so that its files and its process are at hand."""

    http_url: str
    repository: Path
    pid: int

    def artifact(self, model: str) -> Path:
        """The file of an encoder."""
        return model_folder(self.repository, model) / "1" / "model.pt"


@contextmanager
def embedded(repository: Path, log: Path) -> Iterator[Embedded]:
    """An embedded server on free ports, stopped at the end."""
    with Server(repository, Ports(0, 0, 0), log=log) as server:
        manifest, instances = _manifest(server.grpc_url), instance_counts(repository)
        yield Embedded(server.grpc_url, manifest, instances, server.http_url, repository, server.pid)


def running(url: str, repository: Path | None) -> Deployment:
    """A server that is up at grpc://HOST:PORT; raises NotMeasurable. `repository` is what it serves, where known."""
    if not url.startswith("grpc://"):
        raise NotMeasurable(f"{url}: statistics are read over gRPC, so the URL must be grpc://HOST:PORT")
    return Deployment(url, _manifest(url), instance_counts(repository) if repository is not None else {})


def instance_counts(repository: Path) -> dict[str, int]:
    """Instances of each stage by its config: processes, or copies on one device."""
    paths = {stage: repository / stage / CONFIG for stage in STAGES}
    groups = {stage: read_config(path).instance_group for stage, path in paths.items() if path.is_file()}
    return {stage: sum(group.count for group in each) or 1 for stage, each in groups.items()}


@contextmanager
def linked_copy(repository: Path) -> Iterator[Path]:
    """A copy to change, removed at the end. Its files are links: replace them, never write into them."""
    with TemporaryDirectory(prefix="tritonclip-copy-") as folder:
        yield Path(shutil.copytree(repository, Path(folder) / repository.name, copy_function=link_or_copy))


def switch_batching_off(copy: Path) -> None:
    """Have every stage of a linked copy run each request alone."""
    for path in copy.glob(f"*/{CONFIG}"):
        config = read_config(path)
        if config.HasField("dynamic_batching"):
            config.ClearField("dynamic_batching")
            path.unlink()
            write_config(config, path)


def _manifest(url: str) -> Manifest:
    try:
        with Client(url) as client:
            manifest = client.status().manifest
    except TritonClipError as error:
        raise NotMeasurable(str(error)) from error
    if manifest is None:
        raise NotMeasurable(f"{url}: the server has no manifest, so it is not known what it serves")
    return manifest
