"""The client's README, run: its Python, and each of its commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.client.wire_servers import serve_grpc
from tritonclip.cli import main
from tritonclip.testing import FakeServer

README = (Path(__file__).parents[3] / "client" / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^tritonclip .*$", README, re.MULTILINE)


@pytest.fixture
def _served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "dog.jpg", "photos/one.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "captions.txt").write_text("a cat\n")
    (tmp_path / "captions.csv").write_text("path,caption\ncat.jpg,a cat\n")
    (tmp_path / "animals" / "cat").mkdir(parents=True)
    (tmp_path / "animals" / "cat" / "1.jpg").write_bytes(b"a cat")
    monkeypatch.chdir(tmp_path)
    with serve_grpc(FakeServer(label_sets={"animals": ["cat", "dog"]})) as (url, _):
        monkeypatch.setenv("TRITONCLIP_URL", url)
        assert main(["index", "add", "photos.index", "photos"]) == 0
        yield


def test_there_is_something_to_run() -> None:
    assert (len(PYTHON), len(COMMANDS)) == (6, 11)


@pytest.mark.usefixtures("_served")
@pytest.mark.parametrize("code", PYTHON)
def test_python(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.usefixtures("_served")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    assert main(shlex.split(command)[1:]) == 0
