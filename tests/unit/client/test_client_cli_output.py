"""Where the command's results go: names that no encoding has, and streams that were closed before it began."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.client.conftest import Command
from tests.unit.client.wire_servers import serve_grpc
from tritonclip.testing import FakeServer


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
@pytest.mark.parametrize("to_file", [True, False])
def test_names_that_are_not_utf8_are_escaped(command: Command, tmp_path: Path, format_: str, to_file: bool) -> None:
    image, output = tmp_path / "caf\udce9.jpg", tmp_path / "output"
    image.write_bytes(b"a cat")
    given = ["--format", format_, *(["--output", str(output)] if to_file else [])]
    assert command("embed", str(image), *given) == 0
    text = output.read_text(encoding="utf-8") if to_file else command.text
    assert "caf\\udce9.jpg" in text
    if format_ == "json":
        assert json.loads(text)["items"][0]["input"] == str(image)


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_traceback(closed: str) -> None:
    with serve_grpc(FakeServer()) as (url, _):
        script = f'exec "$0" -m tritonclip.cli status --url {url} {closed}'
        process = subprocess.run(["/bin/sh", "-c", script, sys.executable], capture_output=True, timeout=60)
    assert process.returncode == 0
    assert process.stderr == b""
