"""What an index keeps of an image, and what is done with it: columns, thumbnails, exports, removal."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from tests.unit.search.conftest import WIDTH
from tritonclip import Client, ConfigError, InputError
from tritonclip.search import Index
from tritonclip.testing import FakeServer


def names(found: Any) -> list[str]:
    return [Path(hit.uri).stem for hit in found]


def test_captions_and_metadata_become_columns(client: Client, photos: Path, uri: str) -> None:
    (photos / "list.csv").write_text(
        'path,caption,stars,place\ncow.jpg,"a cow,\nin a field",5,Bern\npets/cat.jpg,,3,\nowl.jpg,an owl,,Basel\n'
    )
    with Index.create(uri, client) as index:
        index.add(photos / "list.csv")
        (cow,) = index.search("cow", where="stars > 4")
        assert cow.metadata["caption"] == "a cow,\nin a field"
        assert cow.metadata["place"] == "Bern"
        assert cow.metadata["stars"] == 5
        assert names(index.search("cow", where="place IS NULL OR place = 'Basel'")) in (["cat", "owl"], ["owl", "cat"])
        (photos / "cow.jpg").write_text("another cow")
        assert index.add(photos).changed == 1  # and the folder says nothing of captions
        (cow,) = index.search("another cow", where="caption LIKE 'a cow%'")
        assert (cow.metadata["stars"], cow.metadata["place"]) == (5, "Bern")


def test_metadata_that_does_not_fit_is_an_error_of_its_image(client: Client, photos: Path, uri: str) -> None:
    (photos / "one.csv").write_text("path,stars\ncow.jpg,5\n")
    (photos / "two.csv").write_text("path,stars\nowl.jpg,many\npets/cat.jpg,4\n")
    with Index.create(uri, client) as index:
        index.add(photos / "one.csv")
        report = index.add(photos / "two.csv")
        (error,) = [e for e in index.errors().to_pylist() if e["uri"].endswith("owl.jpg")]
        assert "stars" in error["reason"]
        assert "'many'" in error["reason"]
        assert report.failed == 2  # a CSV's column has one type: words
        assert names(index.search("cow", where="stars = 5")) == ["cow"]


def test_metadata_that_its_column_keeps_otherwise_is_no_change(client: Client, photos: Path, uri: str) -> None:
    """A number in a column of words is kept as a word; compared as a number it would be new each time."""
    (photos / "words.csv").write_text("path,tag,size\ncow.jpg,field,0.5\n")
    (photos / "numbers.csv").write_text("path,tag,size\nowl.jpg,5,1\npets/cat.jpg,7,2\n")
    with Index.create(uri, client) as index:
        index.add(photos / "words.csv")
        assert index.add(photos / "numbers.csv").added == 2
        assert index.add(photos / "numbers.csv").unchanged == 2


def test_thumbnails_are_small_and_upright(client: Client, fake: FakeServer, tmp_path: Path, uri: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200), "red").save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (300, 300), (0, 0, 255, 0)).save(tmp_path / "clear.png")
    Image.new("I;16", (50, 40)).save(tmp_path / "deep.png")
    with Index.create(uri, client) as index:
        index.add([tmp_path / "turned.jpg", tmp_path / "clear.png", tmp_path / "deep.png"])
        sizes = {}
        for hit in index.search("x"):
            thumbnail = index.thumbnail(hit.id)
            assert thumbnail is not None
            image = Image.open(io.BytesIO(thumbnail))
            assert image.format == "JPEG"
            sizes[Path(hit.uri).name] = (image.size, (hit.metadata["width"], hit.metadata["height"]))
            if hit.uri.endswith("clear.png"):
                assert image.getpixel((5, 5)) == (255, 255, 255)
    assert sizes == {
        "turned.jpg": ((64, 128), (200, 400)),
        "clear.png": ((128, 128), (300, 300)),
        "deep.png": ((50, 40), (50, 40)),
    }


def test_no_thumbnails_where_none_are_wanted(client: Client, photos: Path, uri: str) -> None:
    Image.new("RGB", (40, 20)).save(photos / "real.png")
    with Index.create(uri, client, thumbnails=False) as index:
        index.add(photos / "real.png")
        (hit,) = index.search("x")
        assert index.thumbnail(hit.id) is None
        assert hit.metadata["width"] == 40


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_is_exported_is_what_is_there(
    client: Client, photos: Path, tmp_path: Path, uri: str, precision: Any
) -> None:
    with Index.create(uri, client, precision=precision) as index:
        index.add(photos)
        assert index.export_parquet(tmp_path / "all.parquet") == 4
        assert index.export_npy(tmp_path / "all.npy") == 4
        table = pa.parquet.read_table(tmp_path / "all.parquet")
        vectors = np.load(tmp_path / "all.npy")
        assert vectors.dtype == precision
        lines = (tmp_path / "all.jsonl").read_text().splitlines()
        assert len(lines) == 4
        assert table.schema.field("vector").type.value_type == pa.from_numpy_dtype(np.dtype(precision))
        for row, vector in zip(table.to_pylist(), vectors, strict=True):
            (expected,) = client.embed_images(row["uri"]).features
            np.testing.assert_allclose(vector, expected, atol=1e-3 if precision == "float16" else 0)
            np.testing.assert_array_equal(np.asarray(row["vector"], np.float32), vector.astype(np.float32))
        assert index.search("cat", top_k=1)[0].score == pytest.approx(1.0, abs=1e-3)
        with pytest.raises(ConfigError, match=r"must end in \.npy"):
            index.export_npy(tmp_path / "all.bin")
    assert not list(tmp_path.glob(".*unfinished"))


def test_an_empty_index_answers_and_is_exported(client: Client, tmp_path: Path, uri: str) -> None:
    with Index.create(uri, client) as index:
        assert len(index.search("cat")) == 0
        assert index.search_vectors(np.eye(WIDTH)[:1])[0].hits == ()
        assert index.near_duplicates(0.9) == []
        assert index.sample() == []
        assert index.export_parquet(tmp_path / "none.parquet") == 0
        assert index.export_npy(tmp_path / "none.npy") == 0
        assert np.load(tmp_path / "none.npy").shape == (0, WIDTH)


def test_near_duplicates_are_groups(index: Index, photos: Path) -> None:
    for number in range(3):
        (photos / f"cow {number}.jpg").write_text("cow")
    (photos / "owl again.jpg").write_text("owl")
    index.add(photos)
    groups = index.near_duplicates(0.999)
    assert [sorted(names(group)) for group in groups] == [["cow", "cow 0", "cow 1", "cow 2"], ["owl", "owl again"]]
    assert all(hit.score == pytest.approx(1.0, abs=1e-5) for group in groups for hit in group)
    with pytest.raises(ConfigError):
        index.near_duplicates(1.5)


def test_rows_are_removed_by_name_or_condition(index: Index, photos: Path) -> None:
    assert index.remove(photos / "cow.jpg") == 1
    with pytest.raises(InputError, match=r"cow\.jpg"):
        index.remove([photos / "cow.jpg", photos / "owl.jpg"])
    assert index.info().rows == 3
    assert index.remove(where="uri LIKE '%pets%'") == 2
    assert names(index.search("cat")) == ["owl"]
    with pytest.raises(ConfigError):
        index.remove()


def test_compacting_changes_no_answer(index: Index, photos: Path) -> None:
    before = index.search("cat", top_k=4)
    (photos / "cow.jpg").write_text("cow")  # again, with another time
    index.add(photos)
    index.compact()
    after = index.search("cat", top_k=4)
    assert names(after) == names(before)
    assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before])
