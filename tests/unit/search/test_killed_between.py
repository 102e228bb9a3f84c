"""What processes leave that are killed between two steps, or begin at the same moment: the next run sets it right."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tritonclip import Client, ConfigError
from tritonclip._image_files import MOST_BYTES
from tritonclip.search import Index, IndexLockedError, IndexMissingError, StorageError
from tritonclip.search._items import Item, moment
from tritonclip.search._store import Store
from tritonclip.search._tables import clean_metadata
from tritonclip.testing import FakeServer


def unmake(uri: str, table: str) -> None:
    """Leave a table as one is whose maker was killed before its first version."""
    shutil.rmtree(Path(uri, f"{table}.lance", "_versions"))


def test_a_half_made_index_is_none_and_is_made_anew(client: Client, photos: Path, uri: str) -> None:
    Index.create(uri, client).close()
    unmake(uri, "images")
    with pytest.raises(IndexMissingError):
        Index.open(uri)
    with Index.open_or_create(uri, client) as index:
        assert index.add(photos).added == 4
    assert Index.open(uri).info().rows == 4


def test_of_many_that_make_an_index_at_once_one_does(fake: FakeServer, tmp_path: Path) -> None:
    """The store lets two of them have their way, and what the first has put in by then is lost."""

    def make(uri: Path, start: threading.Barrier) -> bool:
        with Client(transport=fake.transport()) as client:
            client.manifest()
            start.wait()
            try:
                Index.create(uri, client)
            except (ConfigError, IndexLockedError):
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        for number in range(40):
            start = threading.Barrier(4)
            made = [pool.submit(make, tmp_path / str(number), start) for _ in range(4)]
            assert sum(future.result() for future in made) == 1
            assert Index.open(tmp_path / str(number)).info().version == 1


def test_a_half_made_table_of_errors_is_none_and_is_made_anew(client: Client, photos: Path, uri: str) -> None:
    with Index.create(uri, client) as index:
        index.add(photos)
        unmake(uri, "errors")
        assert index.errors().num_rows == 0
        index.compact()
        assert index.add(photos).failed == 1
        assert index.errors().num_rows == 1


def test_an_error_that_outlived_its_image_is_dropped(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are committed before the errors are taken away."""
    (photos / "broken.jpg").write_text("whole")
    with monkeypatch.context() as patch:

        def fail(_store: Store, _ids: object) -> None:
            raise StorageError("killed")

        patch.setattr(Store, "forget_errors", fail)
        with pytest.raises(StorageError):
            index.add(photos)
    assert (index.info().rows, index.errors().num_rows) == (5, 1)
    assert index.add(photos).unchanged == 5
    assert index.errors().num_rows == 0


def test_metadata_of_any_name_and_any_text_can_be_kept(client: Client, photos: Path, uri: str) -> None:
    cleaned = clean_metadata({"_rowid": 1, "_distance": 2, "__": 3, "a b.c": "x\ud800", "_vector": 4, "d\ud800": 5})
    assert cleaned == {"rowid": 1, "distance": 2, "a_b_c": "x\\ud800", "d_ud800": 5}
    header, values = ",".join(["path", "_rowid", "_rowaddr", "_distance", "_score"]), ",7" * 4
    (photos / "list.csv").write_text(f"{header}\ncow.jpg{values}\n")
    with Index.create(uri, client) as index:
        assert index.add(photos / "list.csv").added == 1
        (hit,) = index.search("cow", where="rowid = 7 AND score = 7").hits
        assert hit.metadata["distance"] == 7


def test_a_time_that_no_calendar_has_is_none() -> None:
    assert moment(10**30) is None


def test_a_file_that_no_request_can_hold_is_not_read(tmp_path: Path) -> None:
    for size, readable in ((MOST_BYTES, True), (MOST_BYTES + 1, False)):
        with (tmp_path / "large.jpg").open("wb") as file:
            file.truncate(size)
        assert Item.of_file(tmp_path / "large.jpg").readable == readable
