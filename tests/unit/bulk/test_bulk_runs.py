"""A data set to vectors in this process: what is written, what a second run does, and what ends a run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.datasets import captioned, cut, files, marker, reasons, rows, write_tar
from tritonclip import Client, ConfigError, ConnectError, DeadlineExceededError, UnavailableError
from tritonclip.bulk import DatasetReport, OutputError, embed_dataset
from tritonclip.bulk import _embedding as embedding
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer, features_of

SHARDS, IMAGES = 3, 40


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(transport=server.transport(), batch_size=8) as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three shards of 40 images, one of which the server refuses."""
    for shard in range(SHARDS):
        images = [b"bad" if (shard, number) == (1, 7) else b"%d %d" % (shard, number) for number in range(IMAGES)]
        write_tar(tmp_path / "data" / f"{shard:05}.tar", captioned(images, IMAGES * shard))
    return tmp_path / "data"


@pytest.fixture
def run(client: Client, data: Path, tmp_path: Path) -> Callable[..., DatasetReport]:
    def embed(**options: object) -> DatasetReport:
        return embed_dataset(client, str(data), str(tmp_path / "out"), **options)  # type: ignore[arg-type]

    return embed


def images_asked(server: FakeServer) -> int:
    return sum(len(call.inputs[0].items()) for call in server.requests("embed_image"))


def test_each_shard_becomes_a_file_with_its_rows_in_order(
    run: Callable[..., DatasetReport], data: Path, tmp_path: Path
) -> None:
    report = run(columns=["number", "tags"])
    assert (report.shards, report.rows, report.failed_rows, report.failures) == (3, 119, 1, {})
    found = rows(tmp_path / "out")
    assert [row["uri"] for row in found[:2]] == [f"{data}/00000.tar#000000.jpg", f"{data}/00000.tar#000001.jpg"]
    assert list(found[0]) == ["uri", "vector", "caption", "number", "tags"]
    assert (found[5]["caption"], found[5]["number"], found[5]["tags"]) == ("caption 5", "5", '["a", 5]')
    assert np.allclose(found[5]["vector"], features_of(b"0 5", 16))
    assert reasons(tmp_path / "out", "00001") == {"00001.tar#000047.jpg": "cannot identify the image format"}
    assert (marker(tmp_path / "out", "00001").rows, marker(tmp_path / "out", "00001").failed) == (39, 1)
    assert not (tmp_path / "out" / "_00000.errors.jsonl").exists()


def test_what_is_there_is_not_done_again_and_equal_runs_write_equal_bytes(
    run: Callable[..., DatasetReport], client: Client, server: FakeServer, data: Path, tmp_path: Path
) -> None:
    run()
    asked = images_asked(server)
    report = run()
    assert (report.shards, report.unchanged, images_asked(server)) == (0, 3, asked)
    embed_dataset(client, str(data), str(tmp_path / "again"), workers=1)
    assert files(tmp_path / "again") == files(tmp_path / "out")


def test_what_is_missing_damaged_or_changed_is_done_again(
    run: Callable[..., DatasetReport], data: Path, tmp_path: Path
) -> None:
    run()
    before = files(tmp_path / "out")
    (tmp_path / "out" / "_00000.json").unlink()  # killed before it was written
    cut(tmp_path / "out" / "00001.parquet")
    write_tar(data / "00002.tar", captioned([b"new"]))
    write_tar(data / "more" / "00003.tar", captioned([b"more"]))
    report = run()
    assert (report.shards, report.unchanged, report.rows) == (4, 0, 40 + 39 + 1 + 1)
    after = files(tmp_path / "out")
    assert [after[name] for name in ("00000.parquet", "00001.parquet")] == [
        before[name] for name in ("00000.parquet", "00001.parquet")
    ]
    assert len(pa.parquet.read_table(tmp_path / "out" / "more" / "00003.parquet")) == 1
    (data / "00000.tar").unlink()
    report = run()
    assert (report.unchanged, report.gone) == (3, ("00000",))


def test_an_output_belongs_to_one_model_one_input_and_one_set_of_options(
    run: Callable[..., DatasetReport], client: Client, server: FakeServer, data: Path, tmp_path: Path
) -> None:
    run()
    for options in ({"columns": ["number"]}, {"precision": "float16"}, {"texts": True}, {"column": "photo"}):
        with pytest.raises(ConfigError, match="holds vectors of another run"):
            run(**options)
    with pytest.raises(ConfigError, match=r"holds vectors of another run \(input "):
        embed_dataset(client, str(data / "00000.tar"), str(tmp_path / "out"))
    server.manifest["fingerprint"] = "another"
    with pytest.raises(ConfigError, match="fingerprint 'fa4e0000', now 'another'"):
        run()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "00000.parquet").write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match=r"holds 00000\.parquet, and is no data set of vectors"):
        embed_dataset(client, str(data), str(tmp_path / "others"))
    with pytest.raises(ConfigError, match="lie in each other"):
        embed_dataset(client, str(data), str(data / "vectors"))


def test_a_model_that_changes_during_a_shard_ends_the_run_and_leaves_nothing_of_it(
    run: Callable[..., DatasetReport], server: FakeServer, tmp_path: Path
) -> None:
    def change(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_image" and images_asked(server) > 60:
            server.manifest["fingerprint"] = "another"

    server.before = change
    with pytest.raises(ConfigError, match="such vectors cannot be compared"):
        run(workers=1)
    assert [name for name in files(tmp_path / "out") if name.endswith(".parquet")] == ["00000.parquet"]
    assert not [name for name in files(tmp_path / "out") if "unfinished" in name]


def test_a_shard_that_cannot_be_read_is_reported_and_stops_no_other(
    run: Callable[..., DatasetReport], data: Path, tmp_path: Path
) -> None:
    cut(data / "00000.tar")
    report = run()
    assert (report.shards, list(report.failures)) == (2, ["00000"])
    assert "00000.tar: cannot be read beyond byte " in report.failures["00000"]
    assert not [name for name in files(tmp_path / "out") if "00000" in name]


def test_a_shard_that_the_server_fails_on_is_reported_and_stops_no_other(
    run: Callable[..., DatasetReport], server: FakeServer
) -> None:
    def fail(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs and b"1 5" in call.inputs[0].items():
            raise status_error("INTERNAL", "a process died", "embed_image")

    server.before = fail
    report = run()
    assert (report.shards, report.failures) == (2, {"00001": "embed_image: INTERNAL: a process died"})


def test_servers_that_refuse_or_are_away_are_waited_for(run: Callable[..., DatasetReport], server: FakeServer) -> None:
    refused: list[Call] = []

    def refuse_some(call: Call) -> None:
        if len(refused) < 20 and isinstance(call, InferRequest) and call.inputs:
            refused.append(call)
            raise ConnectError("grpc://x", "gone") if len(refused) % 2 else status_error("UNAVAILABLE", "queue is full")

    server.before = refuse_some
    assert run().rows == 119


def test_without_a_server_for_the_whole_patience_the_run_ends(
    run: Callable[..., DatasetReport], server: FakeServer
) -> None:
    def refuse(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs:
            raise status_error("UNAVAILABLE", "queue is full")

    server.before = refuse
    with pytest.raises((UnavailableError, DeadlineExceededError)):  # the first that ran out of time
        run(patience=0.3)


def test_a_killed_workers_unfinished_file_counts_for_nothing_and_is_removed(
    run: Callable[..., DatasetReport], tmp_path: Path
) -> None:
    run()
    left = [f"_00000.parquet.{'0' * 32}.unfinished", f"__00002.json.{'a' * 32}.unfinished"]
    for name in left:
        (tmp_path / "out" / name).write_bytes(b"half of it")
    mine = f"_00009.parquet.{'0' * 32}.unfinished"  # of a shard that is not there: somebody may be at it
    (tmp_path / "out" / mine).write_bytes(b"half of it")
    assert run().unchanged == 3
    assert {name for name in files(tmp_path / "out") if "unfinished" in name} == {mine}


def test_an_output_that_cannot_be_written_ends_the_run_and_names_it(client: Client, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file/out.*cannot be "):
        embed_dataset(client, str(data), str(tmp_path / "file" / "out"))


def test_nothing_to_embed_and_options_that_make_no_sense_are_named(
    run: Callable[..., DatasetReport], client: Client, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="nothing to embed in it"):
        embed_dataset(client, str(tmp_path / "empty"), str(tmp_path / "out"))
    for options in ({"engine": "dask"}, {"workers": 0}, {"precision": "int8"}, {"columns": ["uri"]}):
        with pytest.raises(ConfigError):
            run(**options)
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        embed_dataset(client, str(tmp_path / "nowhere"), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="nowhere://x"):
        embed_dataset(client, "nowhere://x", str(tmp_path / "out"))


def test_blocks_are_row_groups_and_what_a_worker_holds(
    run: Callable[..., DatasetReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK_ROWS", 16)
    monkeypatch.setattr("tritonclip.bulk._readers.ROWS", 8)
    assert run(precision="float16").rows == 119
    metadata = pa.parquet.read_metadata(tmp_path / "out" / "00000.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [16, 16, 8]
    assert pa.parquet.read_schema(tmp_path / "out" / "00000.parquet").field("vector").type == pa.list_(pa.float16(), 16)
    said = json.loads(pa.parquet.read_schema(tmp_path / "out" / "00000.parquet").metadata[b"tritonclip"])
    assert (said["fingerprint"], said["modality"]) == ("fa4e0000", "image")
