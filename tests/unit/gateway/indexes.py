"""Small indexes, made by the library over a fake server: its vectors are decided by an image's bytes alone."""

import base64
from pathlib import Path

import numpy as np

from tritonclip import Client
from tritonclip.protocol import FloatArray
from tritonclip.search import Index
from tritonclip.testing import FakeServer, features_of

ROOT = Path(__file__).resolve().parents[3]
SCENES = sorted((ROOT / "samples" / "scenes").glob("*-*-*.jpg"))


def make_index(fake: FakeServer, folder: Path, files: list[Path], *, thumbnails: bool = True) -> Path:
    """An index of these images; gives its folder."""
    with Client(transport=fake.transport()) as client, Index.create(folder, client, thumbnails=thumbnails) as index:
        report = index.add(files)
        assert (report.added, report.failed) == (len(files), 0)
    return folder


def add_images(fake: FakeServer, folder: Path, files: list[Path]) -> None:
    """Add images to an index, as another process would."""
    with Client(transport=fake.transport()) as client, Index.open(folder, client) as index:
        index.add(files)


def vector_of(fake: FakeServer, item: bytes | str) -> FloatArray:
    """The vector of an image's bytes or of a text."""
    return features_of(item if isinstance(item, bytes) else item.encode(), fake.width)


def ranked(fake: FakeServer, query: FloatArray, files: list[Path]) -> list[Path]:
    """The images from the nearest on."""
    scores = [float(vector_of(fake, file.read_bytes()) @ query) for file in files]
    return [files[index] for index in np.argsort(scores)[::-1]]


def data_url(file: Path) -> str:
    """An image as a request has it."""
    return f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
