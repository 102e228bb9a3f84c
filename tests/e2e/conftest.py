"""A real browser, for the tests of what pages see, and images with an index for those of searching."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from examples.demo_model.dataset import draw_scenes
from examples.demo_model.scenes import render
from tests.programs_needed import find_program
from tritonclip import Client
from tritonclip_server.embedded.server import Server

if TYPE_CHECKING:
    from tritonclip.search import Index

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1100,1300"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(find_program("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Twenty different JPEGs."""
    files = [io.BytesIO() for _ in range(20)]
    for scene, file in zip(draw_scenes(8, len(files)), files, strict=True):
        Image.fromarray(render(scene, 64, 48)).save(file, "JPEG")
    return [file.getvalue() for file in files]


@pytest.fixture
def index(demo_server: Server, tmp_path: Path) -> Iterator["Index"]:
    """An empty one of the demo model."""
    from tritonclip.search import Index

    with Client(demo_server.grpc_url) as client, Index.create(tmp_path / "index", client) as created:
        yield created


@pytest.fixture
def photos(tmp_path: Path, pictures: list[bytes]) -> Path:
    """Six images, two of them below the folder, and a few files that are none."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    for name, content in zip(
        ("a.jpg", "b.JPEG", "c.png", "d.webp", "pets/e.jpg", "pets/f.jpg"), pictures, strict=False
    ):
        (folder / name).write_bytes(content)
    for name in ("notes.txt", ".hidden.jpg", "pets/Thumbs.db"):
        (folder / name).write_bytes(b"no image")
    return folder
