"""docs/search.md, followed from top to bottom: its commands and its Python, against the demo model's server.

What it shows of other programs is compiled alone, for they are not installed here.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from pyarrow.parquet import ParquetFile

from tests.programs_needed import find_program
from tritonclip import Client
from tritonclip.cli import main
from tritonclip.search import Index
from tritonclip_server.embedded.family import never
from tritonclip_server.embedded.gateway import Gateway
from tritonclip_server.embedded.sample_index import build_sample_index
from tritonclip_server.embedded.server import Server
from tritonclip_server.resources import SAMPLES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OTHERS = ("qdrant_client", "pymilvus", "psycopg")
STEPS = [
    (language, step)
    for language, fence in FENCES
    for step in (fence.splitlines() if language == "bash" else [fence])
    if not any(name in step for name in OTHERS)
]
COMMAND = ".venv/bin/tritonclip "
(GATEWAY_FLAGS,) = re.findall(r'GATEWAY_FLAGS="(.*)"', PAGE)
SCENES = SAMPLES / "scenes"


@dataclass
class Reader:
    """Who has a home with photographs, and types what the page says."""

    folder: Path
    url: str

    def follow(self, language: str, step: str) -> str:
        """What a step prints, once it has ended well."""
        written = io.BytesIO()
        said = io.TextIOWrapper(written, "utf-8", write_through=True)
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.chdir(self.folder)
            patch.setenv("HOME", str(self.folder))
            patch.setenv("TRITONCLIP_URL", self.url)
            if language == "python":
                exec(
                    compile(step.replace("grpc://localhost:8001", self.url), "search.md", "exec"), {"__name__": "page"}
                )
            elif step.startswith(COMMAND):
                assert main([os.path.expanduser(part) for part in shlex.split(step)[1:]]) == 0
            elif step.startswith("curl "):
                with Gateway([self.url], 0, flags=shlex.split(GATEWAY_FLAGS), say=lambda _: None) as gateway:
                    return shell(step.replace("localhost:8080", gateway.url.removeprefix("http://")))
            else:
                return shell(step)
        return written.getvalue().decode()


def shell(command: str) -> str:
    find_program(command.split()[0])
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def reader(demo_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("Photos", "photos"):
        shutil.copytree(SCENES, folder / name, ignore=shutil.ignore_patterns("*.csv", "*.txt", "*.png"))
    with Image.open(SCENES / "blue-star-04.jpg") as star:
        star.resize((2400, 2400)).save(folder / "Photos" / "street.jpg")
    with Client(demo_server.grpc_url) as client:
        fingerprint = str(client.manifest().fingerprint)
    said: list[str] = []
    samples = folder / "build" / "indexes" / "samples"
    assert build_sample_index(samples, demo_server.grpc_url, fingerprint, said.append, never), said
    return Reader(folder, demo_server.grpc_url)


SAYS = {  # a part of what some steps print
    'samples "a red triangle"': r"caption\s+0\.\d+ .*/red-triangle-15\.jpg .* a photo of a",
    "--image ~/Photos/street.jpg\n": r"caption\s+1\.0* .*/street\.jpg ",
    "width > 2000": r"caption\s+0\.\d+ .*/street\.jpg +2400 ",
    "--near-duplicates": r"\n +1 .*\n +1 ",
    "/v1/search": r'^{"object":"list","index":"photos".*"uri":"/.*\.jpg"',
    "index.like(": r"^24 0 49\n0\.\d+ .*red-triangle-15\.jpg ",
    "AsyncIndex": r"red-triangle-15.*True, 49.*(street|blue-star-04)",
    "info photos.backup": r"\nrows +49\n",
    "list_versions": r"^\[\(1, ",
    "index export": r"photos\.parquet\nrows +49\n",
}


@pytest.mark.parametrize(("language", "step"), STEPS, ids=[step.splitlines()[0] for _, step in STEPS])
def test_a_step(language: str, step: str, reader: Reader) -> None:
    said = reader.follow(language, step)
    for part, pattern in SAYS.items():
        if part in f"{step}\n":
            assert re.search(pattern, said), said
    assert said or "--output" in step or step.startswith("cp ")


def test_what_is_expected_belongs_to_a_step() -> None:
    text = "".join(f"{step}\n" for _, step in STEPS)
    assert [part for part in SAYS if part not in text] == []
    assert len(STEPS) > 15


def test_what_was_written_is_there(reader: Reader) -> None:
    page = (reader.folder / "found.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 20
    with Index.open(reader.folder / "photos.index") as index:
        assert index.info().rows == 49


@pytest.mark.parametrize("name", OTHERS)
def test_programs_for_others_are_python_that_reads_the_exports_columns(name: str, reader: Reader) -> None:
    (code,) = [fence for language, fence in FENCES if language == "python" and name in fence]
    compile(code, "search.md", "exec")
    (columns,) = re.findall(r"iter_batches\(500, columns=\[(.*?)\]", code)
    photos = ParquetFile(reader.folder / "photos.parquet")
    assert set(re.findall(r"\w+", columns)) <= set(photos.schema_arrow.names)
    assert photos.schema_arrow.field("vector").type.list_size == 128
