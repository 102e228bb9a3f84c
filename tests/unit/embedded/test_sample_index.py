"""The index of the samples: made, kept, made anew for another model, and no reason to stop where it cannot be made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.client.wire_servers import serve_grpc
from tritonclip.search import Index
from tritonclip.testing import FakeServer
from tritonclip_server.embedded.family import never
from tritonclip_server.embedded.sample_index import build_sample_index
from tritonclip_server.resources import SAMPLES

IMAGES = len([*SAMPLES.glob("scenes/*.jpg"), *SAMPLES.glob("photos/*.jpg")])


class Served:
    """A model, and the attempts to index the samples with it."""

    def __init__(self, url: str, fake: FakeServer, folder: Path) -> None:
        self.url, self.fake, self.folder = url, fake, folder
        self.said: list[str] = []

    def build(self, fingerprint: str, *, stopping: bool = False) -> bool:
        self.fake.manifest |= {"fingerprint": fingerprint}
        return build_sample_index(
            self.folder, self.url, fingerprint, self.said.append, (lambda: True) if stopping else never
        )

    def version(self) -> tuple[str, int, int]:
        with Index.open(self.folder) as index:
            info = index.info()
        return info.fingerprint, info.rows, info.version


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    fake = FakeServer()
    with serve_grpc(fake) as (url, _):
        yield Served(url, fake, tmp_path / "indexes" / "samples")


def test_it_has_the_samples_with_their_captions_and_is_kept(served: Served) -> None:
    assert served.build("0123456789abcdef")
    before = served.version()
    assert before[:2] == ("0123456789abcdef", IMAGES)
    with Index.open(served.folder) as index:
        (triangle,) = index.search(vector=[1.0] * index.info().width, where="caption LIKE '%red triangle%'").hits
    assert Path(triangle.uri).name == "red-triangle-15.jpg"
    assert served.build("0123456789abcdef")
    assert served.version() == before
    assert served.said == []


def test_another_models_is_made_anew(served: Served) -> None:
    assert served.build("0123456789abcdef")
    assert served.build("fedcba9876543210")
    assert served.version()[:2] == ("fedcba9876543210", IMAGES)
    assert served.said == []


def test_what_keeps_it_from_being_made_is_said_in_a_line(served: Served) -> None:
    served.folder.parent.write_text("a file")
    assert not served.build("0123456789abcdef")
    (line,) = served.said
    assert line.startswith("no index of the sample images: ")
    assert str(served.folder) in line
    assert served.folder.parent.read_text() == "a file"


def test_asked_to_stop_it_does_so_and_says_nothing(served: Served) -> None:
    assert not served.build("0123456789abcdef", stopping=True)
    assert served.said == []
