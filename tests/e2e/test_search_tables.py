"""Images for an index in tables (CSV, TSV, Parquet) and in shards (tar), whole and damaged."""

import datetime
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.indexing import counts, metadata, names, reasons, uris, write_table
from tritonclip import ConfigError
from tritonclip.search import Index


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables_of_paths(index: Index, photos: Path, kind: str) -> None:
    rows: list[dict[str, object]] = [
        {"path": "a.jpg", "caption": 'a "red"\ncircle, large', "stars": 5},
        {"path": str(photos / "b.JPEG"), "caption": "", "stars": 3},
        {"path": "pets/../c.png", "caption": "007", "stars": None},
        {"path": "gone.jpg", "caption": "gone", "stars": 1},
        {"path": "", "caption": "nowhere", "stars": 1},
        {"path": "a.jpg", "caption": "once more", "stars": 1},
    ]
    table = write_table(photos / f"list.{kind}", rows)
    assert counts(index, table) == (3, 0, 0, 2, 0)
    found = metadata(index)
    assert found.keys() == {"a.jpg", "b.JPEG", "c.png"}
    assert (found["a.jpg"]["caption"], found["a.jpg"]["stars"]) == ('a "red"\ncircle, large', 5)
    assert found["c.png"]["caption"] == "007"
    assert found["b.JPEG"]["caption"] in (None, "")
    assert reasons(index) == {
        "gone.jpg": os.strerror(2),
        f"list.{kind}#4": "the table does not say where this image is",
    }

    rows[0]["caption"] = "a small star"
    rows[1]["stars"] = 4
    write_table(table, rows)
    assert counts(index, table) == (0, 2, 1, 2, 0)
    found = metadata(index)
    assert (found["a.jpg"]["caption"], found["b.JPEG"]["stars"]) == ("a small star", 4)
    assert counts(index, photos) == (3, 0, 3, 0, 0)  # the folder says nothing of captions, which stay
    assert metadata(index)["a.jpg"]["caption"] == "a small star"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Empty CSV file"),
        (b"name,caption\na.jpg,x\n", "none of its columns is called path"),
        (b"path,caption\ncaf\xe9.jpg,x\n", "UTF-?8|utf-8"),
        (b"path,caption\na.jpg,x,y\n", "Expected 2 columns"),
    ],
)
def test_a_table_that_is_none_is_named(index: Index, tmp_path: Path, content: bytes, reason: str) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(ConfigError, match=f"list.csv: .*({reason})"):
        index.add(table)


@pytest.mark.parametrize("form", ["bytes", "hugging face"])
def test_parquet_of_bytes(index: Index, pictures: list[bytes], tmp_path: Path, form: str) -> None:
    contents = [*pictures[:3], b"no image", None]
    images = contents if form == "bytes" else [{"bytes": each, "path": None} for each in contents]
    rows = [{"image": image, "caption": str(number), "label": number} for number, image in enumerate(images)]
    table = write_table(tmp_path / "train.parquet", rows)
    assert counts(index, table) == (3, 0, 0, 2, 0)
    assert names(index) == {"train.parquet#0", "train.parquet#1", "train.parquet#2"}
    assert metadata(index)["train.parquet#2"]["label"] == 2
    assert reasons(index).keys() == {"train.parquet#3", "train.parquet#4"}
    assert counts(index, table) == (0, 0, 3, 2, 0)
    write_table(table, rows[:2])
    assert counts(index, table, prune=True, digest=True) == (0, 0, 2, 0, 1)
    assert reasons(index) == {}


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(pictures: list[bytes]) -> dict[str, bytes]:
    """Four of them: with a caption, with metadata, with neither, and with a broken image."""
    return {
        "001.jpg": pictures[0],
        "001.txt": b"a red circle\n",
        "002.json": json.dumps({"caption": "a star\ud800", "score": 0.5, "tags": ["x"]}).encode(),
        "002.jpg": pictures[1],
        "sub/003.left.png": pictures[2],
        "004.jpg": b"no image",
        "005.jpg": pictures[4],
    }


def test_shards(index: Index, pictures: list[bytes], tmp_path: Path) -> None:
    for number in range(2):
        write_shard(tmp_path / f"part-{number:03}.tar", samples(pictures))
    pattern = tmp_path / "part-{000..001}.tar"
    assert counts(index, pattern) == (8, 0, 0, 2, 0)
    found = metadata(index)
    assert found["part-000.tar#001.jpg"]["caption"] == "a red circle"
    assert found["part-001.tar#002.jpg"]["caption"] == "a star\\ud800"
    assert (found["part-001.tar#002.jpg"]["score"], found["part-001.tar#002.jpg"]["tags"]) == (0.5, '["x"]')
    assert found["part-001.tar#002.jpg"]["mtime"] == datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC)
    assert reasons(index).keys() == {"part-000.tar#004.jpg", "part-001.tar#004.jpg"}
    assert counts(index, pattern, prune=True) == (0, 0, 8, 2, 0)
    write_shard(tmp_path / "part-000.tar", {"001.jpg": pictures[0]})
    assert counts(index, tmp_path / "part-000.tar", prune=True) == (0, 0, 1, 0, 3)
    assert counts(index, tmp_path, prune=True) == (0, 0, 0, 0, 0)  # of a folder that holds shards, they are not pruned
    (tmp_path / "part-001.tar").unlink()
    assert counts(index, tmp_path, prune=True) == (0, 0, 0, 0, 4)


def damage(shard: Path, how: str) -> None:
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        member = tar.getmember("005.jpg")
    if how == "cut off within an image":
        content = content[: member.offset_data + member.size // 2]
    elif how == "cut off within a header":
        content = content[: member.offset + 100]
    elif how == "cut off between two members":
        content = content[: member.offset]
    else:
        content[member.offset : member.offset + 512] = b"x" * 512
    shard.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    ["cut off within an image", "cut off within a header", "cut off between two members", "overwritten in the middle"],
)
def test_of_a_damaged_shard_what_lies_before_is_in(
    index: Index, pictures: list[bytes], tmp_path: Path, how: str
) -> None:
    shard = write_shard(tmp_path / "part.tar", samples(pictures))
    whole = shard.read_bytes()
    damage(shard, how)
    assert counts(index, shard) == (3, 0, 0, 2, 0)
    assert names(index) == {"part.tar#001.jpg", "part.tar#002.jpg", "part.tar#sub/003.left.png".rpartition("/")[2]}
    assert reasons(index).keys() == {"part.tar#004.jpg", "part.tar"}
    assert reasons(index)["part.tar"].startswith("the rest of the shard cannot be read: ")

    shard.write_bytes(whole)
    assert counts(index, shard) == (1, 0, 3, 1, 0)
    assert reasons(index).keys() == {"part.tar#004.jpg"}
    damage(shard, how)
    assert counts(index, shard, prune=True) == (0, 0, 3, 2, 0)  # what cannot be seen is not gone
    assert len(uris(index)) == 4
