"""Served repositories and real Triton servers for tests; everything listens on free loopback ports."""

from pathlib import Path

import open_clip
import pytest

from tritonclip_server.embedded.server import Ports, Server
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import Variant
from tritonclip_server.repository.manifest import digest_artifacts, name_of, read_manifest, write_manifest

ARCHITECTURES = Path(__file__).with_name("architectures")
FREE_PORTS = Ports(0, 0, 0)


def publish(
    architecture: str,
    into: Path,
    *,
    host: str = "cpu",
    precision: str = "fp32",
    tag: str = "none",
    tokenizer: Path | None = None,
    model: str | None = None,
) -> Path:
    """Export an architecture with random weights; the repository is the folder `into`."""
    open_clip.add_model_config(ARCHITECTURES)
    variant = Variant(architecture, tag)
    request = Request(variant, host=host, precision=precision, random=True, tokenizer=tokenizer, model=model)
    export(request, into, report=lambda step: None)
    return into


def take_as_published(repository: Path) -> None:
    """Write the digests of the artifacts as they are into the manifest: of those that a test has changed."""
    manifest = read_manifest(repository)
    assert manifest is not None
    write_manifest(manifest | {"artifacts": digest_artifacts(repository, name_of(repository))}, repository)


def start(repository: Path, log: Path, **options: str) -> Server:
    """A running server on free ports; the caller stops it."""
    server = Server(repository, FREE_PORTS, log=log, **options)  # type: ignore[arg-type]
    try:
        server.start()
    except BaseException:
        if log.exists():
            print(log.read_text()[-4000:])
        raise
    return server


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ConvNeXt with random weights in fp32, published for a CPU host."""
    return publish("tiny-convnext", tmp_path_factory.mktemp("served") / "tiny-convnext")


@pytest.fixture(scope="session")
def named_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by the name `tiny`, as for a Triton that carries several models."""
    return publish("tiny-convnext", tmp_path_factory.mktemp("named") / "tiny", model="tiny")
