"""A model and images small enough to train on in seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ARCHITECTURES
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.variants import Variant
from tritonclip_server.finetune.folder import model_config, write_folder

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 40), "blue": (30, 60, 220)}


@pytest.fixture(scope="session")
def tiny(architectures: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Small architectures with random weights as folders, by name."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(architecture: str) -> Path:
        assert (ARCHITECTURES / f"{architecture}.json").is_file()
        if not (root / architecture).exists():
            checkpoint = load_checkpoint(Variant(architecture, "none"), random=True)
            write_folder(root / architecture, model_config(checkpoint), checkpoint.model.state_dict())
        return root / architecture

    return folder


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 8 noisy images for each of three colours."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(8):
            pixels = np.clip(rng.normal(colour, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root
