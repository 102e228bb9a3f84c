"""The trained demonstration model: served by a real Triton, and as eager open_clip, which the served one must equal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from examples.demo_model.dataset import CLASSES, draw_scenes, scene_image
from examples.demo_model.scenes import Scene
from tests.reference import image_features, text_features
from tests.serving import start
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.label_sets import publish_label_set
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import resolve

SEED, COUNT = 77_000, 144  # scenes that training never drew
TEMPLATE = "a photo of a {}"


@pytest.fixture(scope="session")
def demo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant `demo` as `make up` publishes it here, with all its classes as the label set `scenes`."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    export(Request(resolve("demo"), host="cpu"), folder, report=lambda step: None)
    publish_label_set(folder, "scenes", Prompts(CLASSES, (TEMPLATE,)), torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def demo_server(demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded Triton on it."""
    running = start(demo_repository, tmp_path_factory.mktemp("logs") / "triton.log")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def demo_checkpoint() -> Checkpoint:
    """Eager open_clip with the same weights."""
    return load_checkpoint(resolve("demo"))


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Scenes of all kinds."""
    return draw_scenes(SEED, COUNT)


@pytest.fixture(scope="session")
def scene_files(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The scenes as PNG files of several aspect ratios."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = [folder / f"{number:03}.png" for number in range(len(scenes))]
    for number, (scene, path) in enumerate(zip(scenes, paths, strict=True)):
        scene_image(scene, number).save(path)
    return paths


@pytest.fixture(scope="session")
def eager_cosines(demo_checkpoint: Checkpoint, scene_files: Sequence[Path]) -> NDArray[np.float32]:
    """float32 [scenes, classes] of eager open_clip on the same files."""
    images = image_features(demo_checkpoint, [Image.open(path).convert("RGB") for path in scene_files])
    texts = text_features(demo_checkpoint, [TEMPLATE.format(name) for name in CLASSES])
    return images @ texts.T
