"""The reference has every public name of the client, and every endpoint of the gateway."""

import re
from pathlib import Path

import tritonclip
import tritonclip.bulk
import tritonclip.search
import tritonclip.training
from scripts.gateway_reference import document, reference, type_of

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_every_public_name_of_the_client() -> None:
    named = re.findall(r"^::: tritonclip\.(\w+)$", (REFERENCE / "client.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted([*named, "__version__"]) == sorted(tritonclip.__all__)


def test_every_public_name_of_search() -> None:
    page = (REFERENCE / "search.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: tritonclip\.search\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(tritonclip.search.__all__)


def test_every_public_name_of_bulk() -> None:
    page = (REFERENCE / "bulk.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: tritonclip\.bulk\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(tritonclip.bulk.__all__)


def test_every_public_name_of_training() -> None:
    page = (REFERENCE / "training.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: tritonclip\.training\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(tritonclip.training.__all__)


def test_the_example_of_the_fake_server_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (REFERENCE / "evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "evaluation.md", "exec"), {})


def test_every_endpoint_of_the_gateway() -> None:
    described = document()
    page = reference(described)
    for path, methods in described["paths"].items():
        for method in methods:
            assert re.search(rf"(^## |`){method.upper()} {re.escape(path)}(`|$)", page, re.MULTILINE)
    section = page.split("\n## POST /v1/similarity\n")[1].split("\n## ")[0]
    assert re.search(r"^\| `images` \| .*list of ", section, re.MULTILINE)
    assert "changes nothing" not in page


def test_types_are_written_in_words() -> None:
    text = {"type": "string"}
    assert type_of({"anyOf": [text, {"type": "array", "items": {"anyOf": [text, {"type": "integer"}]}}]}) == (
        "string or list of (string or integer)"
    )
    assert type_of({"anyOf": [{"enum": ["a", None]}, {"type": "null"}]}) == '`"a"`'
