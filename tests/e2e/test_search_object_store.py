"""An index in an object store: a real S3 server, and everything that an index in a folder can do."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pyarrow.parquet
import pytest
from moto.server import ThreadedMotoServer

from examples.demo_model.dataset import draw_scenes, scene_image
from tests.held_images import held_image
from tests.indexing import IndexCommand, all_hits, reasons, run_index, uris
from tritonclip import Client, ConfigError
from tritonclip.search import Index, IndexLockedError, IndexMissingError, StorageError
from tritonclip_server.embedded.server import Server


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A bucket; the environment says where it is, as users say it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_REGION", "us-east-1")
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="pictures")
        yield "s3://pictures"
    server.stop()


@pytest.fixture
def client(demo_server: Server) -> Iterator[Client]:
    with Client(demo_server.grpc_url) as connected:
        yield connected


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, scene in enumerate(draw_scenes(7, 20)):
        scene_image(scene, number).save(folder / f"{number:02}.jpg")
    return folder


def test_an_index_in_an_object_store_does_all_that_one_in_a_folder_does(
    store: str, client: Client, photos: Path, tmp_path: Path
) -> None:
    uri = f"{store}/all"
    with pytest.raises(IndexMissingError, match="there is no index"):
        Index.open(uri)
    with Index.create(uri, client) as index, Index.create(tmp_path / "local", client) as local:
        with pytest.raises(ConfigError, match="there is an index already"):
            Index.create(uri, client)
        (photos / "torn.jpg").write_bytes(b"torn")
        report = index.add(photos)
        assert (report.added, report.failed) == (20, 1)
        assert reasons(index).keys() == {"torn.jpg"}
        local.add(photos)
        found, expected = (each.search("a red circle", top_k=5).hits for each in (index, local))
        assert [hit.uri for hit in found] == [hit.uri for hit in expected]
        assert index.thumbnail(found[0].id) == local.thumbnail(found[0].id)

        (photos / "torn.jpg").unlink()
        (photos / "00.jpg").write_bytes((photos / "01.jpg").read_bytes())
        (photos / "02.jpg").unlink()
        report = index.add(photos, prune=True)
        assert (report.added, report.changed, report.unchanged, report.pruned) == (0, 1, 18, 1)
        assert index.errors().num_rows == 0
        assert index.remove(photos / "03.jpg") == 1
        index.compact()
        assert uris(index) == {str(path) for path in photos.iterdir()} - {str(photos / "03.jpg")}
        assert index.info().bytes > 0
        assert index.export_parquet(tmp_path / "rows.parquet") == 18
        assert pyarrow.parquet.read_metadata(tmp_path / "rows.parquet").num_rows == 18
        assert index.export_npy(tmp_path / "rows.npy") == 18
        assert np.load(tmp_path / "rows.npy").shape == (18, index.info().width)


def test_processes_share_an_index(store: str, demo_server: Server, client: Client, photos: Path) -> None:
    uri = f"{store}/shared"
    assert run_index(demo_server.grpc_url, "add", uri, photos).startswith("0 ")
    with Index.open(uri, client) as index:
        assert len(uris(index)) == 20
        assert run_index(demo_server.grpc_url, "remove", uri, photos / "05.jpg").startswith("0 ")
        index.refresh()
        assert str(photos / "05.jpg") not in uris(index)


def test_of_two_writers_the_second_is_told(store: str, demo_server: Server, client: Client, photos: Path) -> None:
    uri = f"{store}/locked"
    with Index.create(uri, client) as index, held_image((photos / "00.jpg").read_bytes()) as held:
        first = IndexCommand(demo_server.grpc_url, "add", uri, held.url).begin()
        assert held.asked.wait(60)
        with pytest.raises(IndexLockedError, match=f"process {first.process.pid} on .* 15 minutes after it was killed"):
            index.add(photos)
        assert all_hits(index) == []  # who reads goes on
        held.answer.set()
        assert first.end()[0] == 0
        assert index.add(photos).added == 20


def test_a_writer_that_was_taken_for_dead_writes_no_more(
    store: str, demo_server: Server, client: Client, photos: Path
) -> None:
    uri = f"{store}/stale"
    with Index.create(uri, client) as index, held_image((photos / "00.jpg").read_bytes()) as held:
        first = IndexCommand(demo_server.grpc_url, "add", uri, held.url).begin()
        assert held.asked.wait(60)
        assert run_index(demo_server.grpc_url, "add", uri, photos, stale_seconds=0).startswith("0 ")
        index.refresh()
        version = index.info().version
        held.answer.set()
        code, said = first.end()
        assert code == 1
        assert said == f"tritonclip: {uri}: another writer took over; nothing more is written\n"
        assert index.info().version == version
        assert held.url not in uris(index)


def test_a_dead_writers_lock_is_taken_over_when_it_is_old(
    store: str, demo_server: Server, client: Client, photos: Path
) -> None:
    uri = f"{store}/dead"
    with Index.create(uri, client) as index, held_image((photos / "00.jpg").read_bytes()) as held:
        first = IndexCommand(demo_server.grpc_url, "add", uri, held.url).begin()
        assert held.asked.wait(60)
        assert first.kill() == -9
        with pytest.raises(IndexLockedError, match=f"process {first.process.pid} on "):
            index.add(photos)
        assert run_index(demo_server.grpc_url, "add", uri, photos, stale_seconds=0).startswith("0 ")
        assert index.add(photos).unchanged == 20  # the lock was given back


@pytest.mark.parametrize("lost", ["/data/", "/_versions/"])
def test_a_lock_that_was_half_given_back_is_none(
    store: str, demo_server: Server, client: Client, photos: Path, lost: str
) -> None:
    """An object store deletes one file after the other, and whoever has it done may be killed between two."""
    uri = f"{store}/half-{lost.strip('/_')}"
    with Index.create(uri, client) as index, held_image((photos / "00.jpg").read_bytes()) as held:
        first = IndexCommand(demo_server.grpc_url, "add", uri, held.url).begin()
        assert held.asked.wait(60)
        first.kill()
        kept = (
            boto3.resource("s3")
            .Bucket("pictures")
            .objects.filter(Prefix=f"{uri.removeprefix('s3://pictures/')}/writer.lance")
        )
        assert [each.delete() for each in kept if lost in each.key]
        assert index.add(photos).added == 20


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (None, None, "The specified bucket does not exist"),
        ("AWS_ALLOW_HTTP", "false", "its endpoint is http://, which AWS_ALLOW_HTTP=true allows"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "Connection refused"),
    ],
)
def test_a_store_that_fails_says_why_in_a_line(
    store: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    value: str,
    reason: str,
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(StorageError) as caught:
        Index.open_or_create("s3://nowhere/index", client)
    assert str(caught.value) == f"s3://nowhere/index: cannot be opened: {reason}"
