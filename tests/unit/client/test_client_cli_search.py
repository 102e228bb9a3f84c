"""What ``tritonclip index`` and ``tritonclip search`` print, in each format, and their exit codes."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from tests.unit.client.conftest import Command


@pytest.fixture
def indexed(command: Command, photos: Path) -> Path:
    Image.new("RGB", (200, 10), "red").save(photos / "wide.png")
    assert command("index", "add", "photos.index", ".", "--format", "json") == 1
    return photos


def document(command: Command) -> Any:
    return json.loads(command.text)


def rows_of(command: Command, *arguments: str) -> list[dict[str, str]]:
    assert command("search", "photos.index", *arguments, "--format", "csv") == 0
    return list(csv.DictReader(io.StringIO(command.text)))


def names(rows: list[dict[str, str]]) -> list[str]:
    return [Path(row["uri"]).name for row in rows]


def test_adding_says_what_it_did_and_names_what_failed(indexed: Path, command: Command) -> None:
    report = document(command)
    del report["seconds"]
    assert report == {"added": 3, "changed": 0, "unchanged": 0, "failed": 1, "pruned": 0, "rows": 3}
    assert command.err == f"tritonclip: {indexed}/broken.jpg: cannot identify the image format\n"
    (indexed / "broken.jpg").unlink()
    (indexed / "cat.jpg").unlink()
    assert command("index", "add", "photos.index", ".", "--prune") == 0
    assert re.findall(r"(unchanged|pruned|rows) +(\d+)", command.text) == [
        ("unchanged", "2"),
        ("pruned", "1"),
        ("rows", "2"),
    ]


def test_an_index_is_shown(indexed: Path, command: Command) -> None:
    assert command("index", "info", "photos.index", "--errors") == 0
    assert re.search(r"^rows +3$", command.text, re.MULTILINE)
    assert re.search(r"^fingerprint +fa4e0000$", command.text, re.MULTILINE)
    assert re.search(r"broken\.jpg +cannot identify", command.text)
    assert command("index", "info", "photos.index", "--errors", "--format", "json") == 0
    (error,) = document(command)["error_list"]
    assert (document(command)["rows"], Path(error["uri"]).name) == (3, "broken.jpg")
    assert not command.fake.requests("embed_text")


def test_a_search_as_table_csv_and_json(indexed: Path, command: Command) -> None:
    assert command("search", "photos.index", "a photo of a cat", "--top-k", "2") == 0
    header, first, _second = command.text.splitlines()
    assert header.split() == ["score", "uri", "width", "height", "caption"]
    assert first.split()[:2] == ["1.0000", str(indexed / "cat.jpg")]
    assert names(rows_of(command, "a photo of a cat", "--top-k", "1")) == ["cat.jpg"]
    assert command("search", "photos.index", "a photo of a cat", "--format", "json") == 0
    best, *_rest = document(command)
    assert best["score"] == pytest.approx(1.0, abs=1e-6)
    assert best["metadata"]["bytes"] == len(b"a photo of a cat")


def test_images_mixtures_and_filters(indexed: Path, command: Command) -> None:
    assert names(rows_of(command, "--image", "dog.jpg", "--top-k", "1")) == ["dog.jpg"]
    mixed = rows_of(command, "a photo of a cat", "--image", "dog.jpg", "--weights", "text=0.1,image=2")
    assert names(mixed)[0] == "dog.jpg"
    usual, less = (
        {Path(row["uri"]).name: float(row["score"]) for row in rows_of(command, "a photo of a cat", *minus)}
        for minus in ([], ["--minus", "a photo of a dog"])
    )
    assert less["dog.jpg"] < usual["dog.jpg"] - 0.1
    assert names(rows_of(command, "a photo of a cat", "--where", "width > 100", "--exact")) == ["wide.png"]


def test_nothing_found_is_said(indexed: Path, command: Command) -> None:
    assert command("search", "photos.index", "a cat", "--where", "width > 9000") == 0
    assert (command.out, command.err) == (b"", "tritonclip: nothing was found\n")
    assert command("search", "photos.index", "a cat", "--where", "width > 9000", "--format", "json") == 0
    assert document(command) == []


def test_a_page_of_results_needs_nothing_beside_it(indexed: Path, command: Command) -> None:
    (indexed / "list.csv").write_text("path,caption\nwide.png,a <b>wide</b> & red picture\n")
    assert command("index", "add", "photos.index", "list.csv") == 0
    assert command("search", "photos.index", 'the <i>"best"</i>', "--format", "html", "--output", "page.html") == 0
    page = (indexed / "page.html").read_text()
    assert "the &lt;i&gt;&quot;best&quot;&lt;/i&gt;" in page
    assert "a &lt;b&gt;wide&lt;/b&gt; &amp; red picture" in page
    assert "<script" not in page
    assert not re.search(r'src="(?!data:)', page)
    (thumbnail,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert Image.open(io.BytesIO(base64.b64decode(thumbnail))).size == (128, 6)
    assert page.count("<li>") == 3


def test_near_duplicates(indexed: Path, command: Command) -> None:
    (indexed / "same.jpg").write_bytes((indexed / "cat.jpg").read_bytes())
    assert command("index", "add", "photos.index", "same.jpg") == 0
    rows = rows_of(command, "--near-duplicates", "0.999")
    assert [(row["group"], Path(row["uri"]).name) for row in rows] in (
        [("1", "cat.jpg"), ("1", "same.jpg")],
        [("1", "same.jpg"), ("1", "cat.jpg")],
    )
    assert command("search", "photos.index", "--near-duplicates", "0.999", "--format", "json") == 0
    assert [len(group) for group in document(command)] == [2]


def test_removing_compacting_and_exporting(indexed: Path, command: Command) -> None:
    assert command("index", "export", "photos.index", "--parquet", "all.parquet", "--npy", "all.npy") == 0
    assert pa.parquet.read_table("all.parquet").num_rows == len(np.load("all.npy")) == 3
    assert command("index", "remove", "photos.index", "cat.jpg") == 0
    assert command("index", "remove", "photos.index", "--where", "width > 100") == 0
    assert command("index", "compact", "photos.index") == 0
    assert command("index", "info", "photos.index", "--format", "json") == 0
    assert document(command)["rows"] == 1
    assert command("index", "remove", "photos.index", "cat.jpg") == 1
    assert "not in the index" in command.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["search", "photos.index"], "say what to look for"),
        (["search", "photos.index", "a cat", "--near-duplicates", "0.9"], "say what to look for"),
        (["search", "photos.index", "a cat", "--weights", "text=much"], "--weights"),
        (["search", "photos.index", "a cat", "--weights", "words=1"], "not words"),
        (["search", "photos.index", "a cat", "--weights", "text=-1"], "the weight of text"),
        (["search", "photos.index", "--image", "*.jpg"], "a query has one"),
        (["search", "nowhere.index", "a cat"], "there is no index"),
        (["search", "photos.index", "a cat", "--format", "npy"], "npy is for vectors"),
        (["embed", "--text", "a", "--format", "html"], "html is for pictures"),
        (["index", "add", "photos.index", "nowhere/"], "no such file or folder"),
        (["index", "add", "photos.index", "*.nothing"], "no file matches"),
        (["index", "remove", "photos.index"], "name the images"),
        (["index", "remove", "photos.index", "cat.jpg", "--where", "width > 3"], "name the images"),
        (["index", "export", "photos.index"], "--parquet FILE"),
        (["index", "export", "photos.index", "--npy", "nowhere/all.npy"], "No such file or directory"),
    ],
)
def test_wrong_usage(indexed: Path, command: Command, arguments: list[str], complaint: str) -> None:
    assert command(*arguments) == 2
    assert complaint in command.err
    assert len(command.err.splitlines()) == 1


def test_sources_that_are_not_there_leave_no_empty_index(command: Command, photos: Path) -> None:
    assert command("index", "add", "new.index", "cat.jpg", "nowhere.jpg") == 2
    assert not (photos / "new.index").exists()


def test_a_query_that_cannot_be_used(indexed: Path, command: Command) -> None:
    assert command("search", "photos.index", "a cat", "--where", "breadth > 3") == 1
    assert "No field named breadth" in command.err
    assert command("search", "photos.index", "--image", "broken.jpg") == 1
    assert "cannot identify the image format" in command.err


def test_without_the_extra_the_remedy_is_named(photos: Path) -> None:
    """In a process of its own, in which the store cannot be imported."""
    code = (
        "import sys\n"
        "sys.modules['lancedb'] = None\n"
        "from tritonclip.cli import main\n"
        "sys.exit(main(['search', 'photos.index', 'a cat']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=photos, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        'tritonclip: searching needs LanceDB: pip install "tritonclip[search]"\n',
    )


def test_other_commands_do_without_the_extra(photos: Path) -> None:
    code = "import sys, tritonclip.cli._parser; assert not {'lancedb', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
