"""A server without a network, and images that it knows by their bytes: text and image of equal bytes have cosine 1."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonclip import Client
from tritonclip.search import Index
from tritonclip.testing import FakeServer

WIDTH = 16


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer(width=WIDTH)


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Client]:
    with Client(transport=fake.transport()) as connected:
        yield connected


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five files, of which one is refused by the server."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    for name, content in {"cow": "cow", "pets/cat": "cat", "pets/dog": "dog", "broken": "bad", "owl": "owl"}.items():
        (folder / f"{name}.jpg").write_text(content)
    return folder


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "photos.index")


@pytest.fixture
def index(client: Client, photos: Path, uri: str) -> Iterator[Index]:
    with Index.create(uri, client) as created:
        created.add(photos)
        yield created
