"""The examples of docs/reference, as they stand there, against the demo model's server."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tritonclip_server.embedded.server import Server

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "reference" / name for name in ("client.md", "protocol.md")]
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
EXAMPLES = re.findall(r"^### (.*)\n(?:.*\n)*?```python\n((?:.*\n)*?)```$", REFERENCE, re.MULTILINE)
SAYS = {  # a part of what each prints
    "Embed images": "(24, 128) {}",
    "Embed texts": "[[",
    "Compare images with texts": "[",
    "Classify by labels given": "star ",
    "Classify by a label set of the server": "('blue star', ",
    "Count tokens, read the manifest, ask for the status": "True 2.51.0 {",
    "One of several models": "vit.manifest",  # is not found: the demo model has no name
    "Handle errors": "0 ",
    "Use asyncio": "[[",
    "Share deadlines and connections": "(1, 128)",
    "Pass a trace and a request's id on": "(1, 128)",
    "Send one call": "(1, 128) ",
}


def test_every_example_is_run() -> None:
    assert [title for title, _ in EXAMPLES] == list(SAYS)
    assert REFERENCE.count("```python") == len(SAYS)


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=SAYS)
def test_an_example(title: str, code: str, demo_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code = code.replace("grpc://localhost:8001", demo_server.grpc_url).replace("with_timeout(2.5)", "with_timeout(60)")
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile(code, title, "exec"), {})
    assert SAYS[title] in written.getvalue()
