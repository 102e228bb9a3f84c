"""What people name as images for an index: each kind of source, odd names, and all that can be wrong with a file.

A bad image is an error with its reason and never ends the run; once it is mended, it is none.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image_files import png
from tests.indexing import AS_ANYBODY, all_hits, counts, names, reasons, run_index, uris, write_table
from tritonclip import ConfigError
from tritonclip.search import Index
from tritonclip_server.embedded.server import Server


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
