"""What can be an input: tables, folders of images, texts in each form, and what is wrong with rows of them."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.datasets import captioned, files, reasons, rows, write_tar
from tritonclip import Client, ConfigError
from tritonclip.bulk import DatasetReport, embed_dataset, open_dataset
from tritonclip.bulk import _shards as shards
from tritonclip.testing import FakeServer, features_of


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(transport=FakeServer().transport()) as made:
        yield made


def embed(client: Client, source: Path, **options: object) -> DatasetReport:
    return embed_dataset(client, str(source), str(source.parent / "out"), **options)  # type: ignore[arg-type]


def write_table(path: Path, columns: dict[str, object]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pa.parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_a_table_holds_images_and_its_columns_keep_their_types(client: Client, tmp_path: Path) -> None:
    columns = {
        "image": [b"one", None, b"bad", b"four"],
        "caption": ["a", "b", None, "d"],
        "number": pa.array([1, 2, 3, 4], pa.int16()),
        "tags": [["x"], [], None, ["y", "z"]],
    }
    write_table(tmp_path / "data" / "a.parquet", columns)
    report = embed(client, tmp_path / "data", columns=["number", "tags"])
    assert (report.rows, report.failed_rows) == (2, 2)
    table = pa.parquet.read_table(tmp_path / "out")
    assert table.column_names == ["uri", "vector", "caption", "number", "tags"]
    assert table.schema.field("number").type == pa.int16()
    assert table.drop_columns(["uri", "vector"]).to_pylist()[1] == {"caption": "d", "number": 4, "tags": ["y", "z"]}
    assert reasons(tmp_path / "out", "a") == {
        "a.parquet#1": "the table does not hold its bytes",
        "a.parquet#2": "cannot identify the image format",
    }


def test_hugging_faces_images_and_columns_of_other_names(client: Client, tmp_path: Path) -> None:
    images = [{"bytes": b"one", "path": "1.jpg"}, {"bytes": None, "path": "2.jpg"}]
    source = write_table(tmp_path / "data" / "a.parquet", {"photo": images})
    report = embed(client, source)
    assert report.failures == {"a": f"{source}: it has no column image; it has photo: name one (--column)"}
    report = embed_dataset(client, str(source), str(tmp_path / "photos"), column="photo")
    assert (report.rows, report.failed_rows) == (1, 1)
    report = embed_dataset(client, str(source), str(tmp_path / "more"), column="photo", columns=["width"])
    assert report.failures == {"a": f"{source}: it has no column 'width'; it has photo"}


def test_a_table_without_rows_and_a_damaged_one(client: Client, tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "a.parquet", {"image": pa.array([], pa.binary()), "n": pa.array([], pa.int8())})
    (tmp_path / "data" / "b.parquet").write_bytes(b"no table")
    report = embed(client, tmp_path / "data", columns=["n"])
    assert (report.shards, report.rows, list(report.failures)) == (1, 0, ["b"])
    assert pa.parquet.read_schema(tmp_path / "out" / "a.parquet").field("n").type == pa.int8()


def test_a_folder_of_images_is_cut_into_parts_in_which_each_file_stays(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "FILES_A_PART", 10)
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(38):
        (folder / "below" / f"{number}.jpg").write_bytes(b"%d" % number)
    (folder / "bad.png").write_bytes(b"bad")
    (folder / ".hidden.jpg").write_bytes(b"x")
    report = embed(client, folder)
    assert (report.shards, report.rows, report.failed_rows) == (4, 38, 1)
    assert {row["uri"] for row in rows(tmp_path / "out")} == {str(path) for path in (folder / "below").iterdir()}
    before = files(tmp_path / "out")
    (folder / "below" / "new.jpg").write_bytes(b"new")
    report = embed(client, folder)
    assert (report.shards, report.unchanged) == (1, 3)
    assert len(rows(tmp_path / "out")) == 39
    after = files(tmp_path / "out")
    assert len([name for name in before if name.endswith(".parquet") and after[name] != before[name]]) == 1


def test_texts_of_each_form(client: Client, tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "0.tar", {**captioned([b"x", b"y"]), "9": {"jpg": b"z"}})
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.txt").write_text("one\ntwo\n")
    write_table(tmp_path / "tables" / "a.parquet", {"caption": ["one", None, "x " * 200], "n": [1, 2, 3]})
    for name in ("tars", "lines", "tables"):
        columns = ["n"] if name == "tables" else []
        report = embed_dataset(client, str(tmp_path / name), str(tmp_path / "out" / name), texts=True, columns=columns)
        assert (report.rows, report.failed_rows) == (2, int(name != "lines"))
        assert report.truncated == int(name == "tables")
    found = rows(tmp_path / "out" / "lines")
    assert [(row["uri"].rpartition("/")[2], row["text"]) for row in found] == [("a.txt#1", "one"), ("a.txt#2", "two")]
    assert np.allclose(found[0]["vector"], features_of(b"one", 16))
    assert [row["text"] for row in rows(tmp_path / "out" / "tars")] == ["caption 0", "caption 1"]
    assert [row["n"] for row in rows(tmp_path / "out" / "tables")] == [1, 3]
    assert reasons(tmp_path / "out" / "tars", "0") == {"0.tar#9": "there is no text"}


def test_archives_go_before_tables_that_say_what_is_in_them(client: Client, tmp_path: Path) -> None:
    write_tar(tmp_path / "data" / "00000.tar", captioned([b"one"]))
    write_table(tmp_path / "data" / "00000.parquet", {"url": ["http://x"]})
    assert [shard.uri for shard in open_dataset(client, str(tmp_path / "data"), str(tmp_path / "out")).missing] == [
        str(tmp_path / "data" / "00000.tar")
    ]
    write_tar(tmp_path / "data" / "00000.tgz", captioned([b"one"]))
    with pytest.raises(ConfigError, match="would be written to the same file"):
        open_dataset(client, str(tmp_path / "data"), str(tmp_path / "out"))


def test_a_place_that_only_fsspec_knows(client: Client, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/data/0.tar", write_tar(tmp_path / "0.tar", captioned([b"one", b"two"])).read_bytes())
    report = embed_dataset(client, "memory://data", "memory://out")
    assert (report.rows, report.failures) == (2, {})
    assert sorted(path.rpartition("/")[2] for path in memory.ls("/out", detail=False)) == [
        "0.parquet",
        "_0.json",
        "_tritonclip.json",
    ]
    assert embed_dataset(client, "memory://data/", "memory:///out").unchanged == 1
