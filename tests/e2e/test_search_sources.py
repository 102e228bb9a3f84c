"""What people name as images for an index: each kind of source, odd names, and all that can be wrong with a file.

A bad image is an error with its reason and never ends the run; once it is mended, it is none.
"""

import csv
import datetime
import functools
import http.server
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from examples.demo_model.dataset import draw_scenes
from examples.demo_model.scenes import render
from tests.image_files import png
from tests.indexing import AS_ANYBODY, all_hits, reasons, run_index, uris
from tritonclip import Client, ConfigError
from tritonclip.search import Index
from tritonclip_server.embedded.server import Server


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Twenty different JPEGs."""
    files = [io.BytesIO() for _ in range(20)]
    for scene, file in zip(draw_scenes(8, len(files)), files, strict=True):
        Image.fromarray(render(scene, 64, 48)).save(file, "JPEG")
    return [file.getvalue() for file in files]


@pytest.fixture
def index(demo_server: Server, tmp_path: Path) -> Iterator[Index]:
    with Client(demo_server.grpc_url) as client, Index.create(tmp_path / "index", client) as created:
        yield created


@pytest.fixture
def photos(tmp_path: Path, pictures: list[bytes]) -> Path:
    """Six images, two of them below the folder, and a few files that are none."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    for name, content in zip(
        ("a.jpg", "b.JPEG", "c.png", "d.webp", "pets/e.jpg", "pets/f.jpg"), pictures, strict=False
    ):
        (folder / name).write_bytes(content)
    for name in ("notes.txt", ".hidden.jpg", "pets/Thumbs.db"):
        (folder / name).write_bytes(b"no image")
    return folder


def names(index: Index) -> set[str]:
    return {uri.rpartition("/")[2] for uri in uris(index)}


def metadata(index: Index) -> dict[str, dict[str, object]]:
    return {hit.uri.rpartition("/")[2]: dict(hit.metadata) for hit in all_hits(index)}


def counts(index: Index, *sources: str | Path, **options: bool) -> tuple[int, int, int, int, int]:
    """added, changed, unchanged, failed, pruned"""
    report = index.add(sources, **options)
    return report.added, report.changed, report.unchanged, report.failed, report.pruned


def test_folders_globs_and_files(index: Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert counts(index, tmp_path / "empty") == (0, 0, 0, 0, 0)
    assert counts(index, photos / "*.jpg") == (1, 0, 0, 0, 0)
    assert counts(index, photos / "**" / "*.jpg") == (2, 0, 1, 0, 0)
    assert counts(index, photos, photos, photos / "a.jpg") == (3, 0, 3, 0, 0)
    monkeypatch.chdir(photos / "pets")
    assert counts(index, "../b.JPEG", "../pets/../a.jpg", "./e.jpg", "..") == (0, 0, 6, 0, 0)
    assert index.remove("../a.jpg") == 1
    assert names(index) == {"b.JPEG", "c.png", "d.webp", "e.jpg", "f.jpg"}
    for nothing in ("gone.jpg", "*.bmp"):
        with pytest.raises(ConfigError, match=r"no such file or folder|no file matches"):
            index.add(photos / nothing)


def test_links_are_the_files_they_lead_to(index: Index, photos: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "to-a.jpg").symlink_to(photos / "a.jpg")
    (links / "nowhere.jpg").symlink_to(photos / "gone.jpg")
    (links / "round.jpg").symlink_to(links / "round.jpg")
    (tmp_path / "pets-link").symlink_to(photos / "pets")
    assert counts(index, links, tmp_path / "pets-link") == (3, 0, 0, 2, 0)
    assert names(index) == {"to-a.jpg", "e.jpg", "f.jpg"}
    assert reasons(index) == {
        "nowhere.jpg": os.strerror(2),  # ENOENT
        "round.jpg": os.strerror(40),  # ELOOP
    }
    assert counts(index, tmp_path / "pets-link" / ".." / "a.jpg") == (1, 0, 0, 0, 0)  # of photos, as the system has it
    assert str(photos / "a.jpg") in uris(index)


ODD_NAMES = (
    "two words.jpg",
    "a#b.jpg",
    "list.csv#1.jpg",
    "it's.jpg",
    'a "quote".jpg',
    "new\nline.jpg",
    "% _*[0-9].jpg",
    "猫.jpg",
)


def test_odd_names(index: Index, pictures: list[bytes], tmp_path: Path) -> None:
    for name, content in zip(ODD_NAMES, pictures, strict=False):
        (tmp_path / name).write_bytes(content)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(pictures[0])
    assert counts(index, tmp_path) == (len(ODD_NAMES), 0, 0, 1, 0)
    assert names(index) == set(ODD_NAMES)
    assert reasons(index) == {"caf\\udce9.jpg": "its name is not UTF-8, as a uri has to be"}
    assert counts(index, tmp_path, prune=True) == (0, 0, len(ODD_NAMES), 1, 0)
    for name in ODD_NAMES:
        quoted = str(tmp_path / name).replace("'", "''")
        (hit,) = index.search("a star", where=f"uri = '{quoted}'").hits
        assert hit.uri == str(tmp_path / name)
    assert index.remove([tmp_path / name for name in ODD_NAMES]) == len(ODD_NAMES)


def bad_files(folder: Path, good: bytes) -> dict[str, str]:
    """Files that are no images, and a part of the reason that is to be said of each."""
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("This is no image.")
    (folder / "torn.jpg").write_bytes(good[: len(good) // 2])
    (folder / "bomb.png").write_bytes(png(30_000, 30_000, 1, 0, bytes(30_000 * 3750)))
    os.mkfifo(folder / "pipe.jpg")
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(20 * 2**30)  # which takes no room on the disk
    return {
        "empty.jpg": "empty",
        "text.jpg": "image",
        "torn.jpg": "",
        "bomb.png": "pixels",
        "pipe.jpg": "not a regular file",
        "huge.jpg": "21,474,836,480 bytes",
    }


def test_bad_files_are_errors_until_they_are_mended(index: Index, photos: Path, pictures: list[bytes]) -> None:
    expected = bad_files(photos, pictures[0])
    assert counts(index, photos) == (6, 0, 0, len(expected), 0)
    found = reasons(index)
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        assert part in found[name].lower()
        assert str(photos) not in found[name]
    for name in expected:
        (photos / name).unlink()
        (photos / name).write_bytes(pictures[7])
    assert counts(index, photos) == (len(expected), 0, 6, 0, 0)
    assert reasons(index) == {}


def test_a_file_that_vanishes_during_the_run_is_an_error(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there when the folder is listed, and gone when its turn comes."""
    read = Path.read_bytes

    def vanishing(path: Path) -> bytes:
        if path.name == "a.jpg":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", vanishing)
    assert counts(index, photos) == (5, 0, 0, 1, 0)
    assert reasons(index) == {"a.jpg": os.strerror(2)}
    assert counts(index, photos, prune=True) == (0, 0, 5, 0, 0)
    assert reasons(index) == {}


def test_what_may_not_be_read_is_an_error_and_is_not_gone(
    index: Index, demo_server: Server, photos: Path, tmp_path: Path
) -> None:
    index.add(photos)
    (photos / "b.JPEG").chmod(0)
    (photos / "pets").chmod(0)
    os.utime(photos / "b.JPEG", (1, 1))
    try:
        said = run_index(demo_server.grpc_url, "add", tmp_path / "index", photos, "--prune", prefix=AS_ANYBODY)
    finally:
        (photos / "pets").chmod(0o755)
    assert said.startswith("1 tritonclip: ")
    index.refresh()
    assert reasons(index) == {"b.JPEG": "Permission denied", "pets": "the folder cannot be listed: Permission denied"}
    assert len(uris(index)) == 6
    (photos / "b.JPEG").chmod(0o644)
    assert counts(index, photos) == (0, 1, 5, 0, 0)
    assert reasons(index) == {}


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


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


@pytest.fixture
def web(photos: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keep the tests' output clean."""

    make = functools.partial(Handler, directory=str(photos))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls(index: Index, photos: Path, web: str, tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "urls.csv", [{"url": f"{web}/{name}"} for name in ("a.jpg", "gone.jpg", "notes.txt")]
    )
    assert counts(index, table, f"{web}/pets/e.jpg", "http://127.0.0.1:9/refused.jpg") == (2, 0, 0, 3, 0)
    assert uris(index) == {f"{web}/a.jpg", f"{web}/pets/e.jpg"}
    assert reasons(index).keys() == {"gone.jpg", "notes.txt", "refused.jpg"}
    assert "HTTP 404" in reasons(index)["gone.jpg"]
    shutil.copy(photos / "b.JPEG", photos / "gone.jpg")
    (photos / "a.jpg").unlink()
    assert counts(index, table, prune=True) == (1, 0, 1, 1, 0)
    shutil.copy(photos / "c.png", photos / "a.jpg")
    assert counts(index, table, digest=True) == (0, 1, 1, 1, 0)


def test_changed_files_are_taken_up(index: Index, photos: Path, pictures: list[bytes]) -> None:
    index.add(photos)
    before = {hit.uri: hit for hit in all_hits(index)}
    (photos / "a.jpg").write_bytes(pictures[9])
    os.utime(photos / "b.JPEG", (1, 1))
    assert counts(index, photos) == (0, 2, 4, 0, 0)
    after = {hit.uri: hit for hit in all_hits(index)}
    differing = {Path(uri).name for uri in after if after[uri].metadata["digest"] != before[uri].metadata["digest"]}
    assert differing == {"a.jpg"}
    assert after[str(photos / "a.jpg")].score != before[str(photos / "a.jpg")].score

    stat = (photos / "c.png").stat()
    (photos / "c.png").write_bytes(pictures[2].replace(b"\x00\x01\x00\x01\x00\x00", b"\x00\x02\x00\x02\x00\x00", 1))
    os.utime(photos / "c.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.utime(photos / "d.webp", (2, 2))
    assert counts(index, photos, digest=True) == (0, 1, 5, 0, 0)  # by content c.png alone has changed

    (photos / "a.jpg").write_bytes(b"no image any more")
    assert counts(index, photos / "a.jpg") == (0, 0, 0, 1, 0)
    assert len(uris(index)) == 6  # the row stays as it was, beside the error
    (photos / "a.jpg").write_bytes(pictures[9])
    assert counts(index, photos / "a.jpg", digest=True) == (0, 0, 1, 0, 0)
    assert reasons(index) == {}


def test_prune_looks_at_what_was_named_alone(index: Index, photos: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    other = tmp_path / "other disk"
    other.mkdir()
    (other / "x.jpg").write_bytes(pictures[8])
    (tmp_path / "photos2").mkdir()
    (tmp_path / "photos2" / "y.jpg").write_bytes(pictures[9])
    table = write_table(tmp_path / "list.csv", [{"path": "photos2/y.jpg"}])
    index.add([photos, other, tmp_path / "photos2"])
    shutil.rmtree(other)
    shutil.rmtree(tmp_path / "photos2")
    shutil.rmtree(photos / "pets")
    assert counts(index, photos) == (0, 0, 4, 0, 0)
    assert len(uris(index)) == 8
    assert counts(index, photos, prune=True) == (0, 0, 4, 0, 2)
    assert names(index) == {"a.jpg", "b.JPEG", "c.png", "d.webp", "x.jpg", "y.jpg"}
    assert counts(index, table, prune=True) == (0, 0, 0, 1, 1)  # it is listed, and it is gone
    assert names(index) == {"a.jpg", "b.JPEG", "c.png", "d.webp", "x.jpg"}


def test_the_command_lists_what_failed(index: Index, demo_server: Server, photos: Path, tmp_path: Path) -> None:
    (photos / "text.jpg").write_text("This is no image.")
    said = run_index(demo_server.grpc_url, "add", tmp_path / "index", photos)
    assert said.startswith(f"1 tritonclip: {photos / 'text.jpg'}: ")
    assert len(said.splitlines()) == 1
    assert len(uris(index)) == 6
