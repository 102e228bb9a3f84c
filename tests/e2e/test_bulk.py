"""A data set to vectors through a real Triton: what the vectors are, where they may lie, and what reads them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from tests.datasets import captioned, files, marker, rows, write_tar
from tests.indexing import file_limit
from tests.reference import image_features
from tests.waiting import wait_for
from tritonclip import Client
from tritonclip.bulk import embed_dataset
from tritonclip.cli import main
from tritonclip.search import Index, IndexMismatchError
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def data(scene_files: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 16 scenes; in the first a truncated one as well."""
    folder = tmp_path_factory.mktemp("data")
    contents = [path.read_bytes() for path in scene_files]
    for shard in range(3):
        samples = captioned(contents[16 * shard : 16 * (shard + 1)], 16 * shard)
        torn = {"torn": {"jpg": contents[0][: len(contents[0]) // 2]}} if shard == 0 else {}
        write_tar(folder / f"{shard:05}.tar", samples | torn)
    return folder


def command(url: str, data: Path, out: Path, *prefix: str) -> subprocess.Popen[str]:
    program = [*prefix, sys.executable, "-m", "tritonclip.cli", "embed-dataset", str(data), str(out), "--url", url]
    return subprocess.Popen([*program, "--workers", "1"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_vectors_are_open_clips_and_an_index_takes_them(
    demo_server: Server,
    demo_checkpoint: Checkpoint,
    scene_files: Sequence[Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["embed-dataset", str(data), str(out), "--columns", "number", "--url", demo_server.grpc_url]) == 1
    assert "failed rows" in capsys.readouterr().out
    vectors = np.stack([row["vector"] for row in rows(out)])
    eager = image_features(demo_checkpoint, [Image.open(path).convert("RGB") for path in scene_files[:48]])
    assert (vectors * eager).sum(axis=1).min() > 0.999
    assert marker(out, "00000").failed == 1

    with Client(demo_server.grpc_url) as client, Index.create(tmp_path / "index", client) as index:
        assert (index.add(out).added, index.info().rows) == (48, 48)
        with Index.create(tmp_path / "own", client) as own:
            own.add(sorted(data.glob("*.tar")))
            expected = [hit.uri for hit in own.search("a red circle", top_k=5).hits]
        assert [hit.uri for hit in index.search("a red circle", top_k=5).hits] == expected
        assert index.search("a red circle", where="number = '7'").hits[0].metadata["caption"] == "caption 7"
        assert (index.add(out).unchanged, index.info().rows) == (48, 48)
        (out / "_00000.json").unlink()  # that shard is made again, maybe of other images
        os.utime(data / "00000.tar")
        embed_dataset(client, str(data), str(out), columns=["number"])
        report = index.add(out)
        assert (report.changed, report.unchanged) == (16, 32)
        job = (out / "_tritonclip.json").read_text()
        (out / "_tritonclip.json").write_text(job.replace(client.manifest().fingerprint or "", "0" * 8))
        with pytest.raises(IndexMismatchError, match="cannot be compared"):
            index.add(out)


def test_a_killed_run_goes_on_and_a_full_disk_ends_one(demo_server: Server, data: Path, tmp_path: Path) -> None:
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    for number in range(40):
        shutil.copy(data / "00001.tar", many / f"{number:05}.tar")
    written = 40
    while written == 40:  # it may end by itself while this process stands still
        shutil.rmtree(out, ignore_errors=True)
        killed = command(demo_server.grpc_url, many, out)
        wait_for(lambda: (out / "00000.parquet").exists(), 120)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        written = len(list(out.glob("_*.json"))) - 1  # but what says what the folder is
    with Client(demo_server.grpc_url) as client:
        report = embed_dataset(client, many, out)
    assert (report.shards, report.unchanged) == (40 - written, written)
    uris = [row["uri"] for row in rows(out)]
    assert len(uris) == len(set(uris)) == 40 * 16
    assert not [name for name in files(out) if "unfinished" in name]

    full = command(demo_server.grpc_url, data, tmp_path / "full", *file_limit(8_000))
    _, said = full.communicate(timeout=120)
    assert full.returncode == 1
    assert "00000.parquet: cannot be written: " in said
    assert [name for name in files(tmp_path / "full") if name != "_tritonclip.json"] == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="sets")
    yield "sets"
    server.stop()


def test_input_and_output_may_lie_in_an_object_store(
    demo_server: Server, data: Path, bucket: str, tmp_path: Path
) -> None:
    store = boto3.client("s3", region_name="us-east-1")
    for path in data.iterdir():
        store.upload_file(str(path), bucket, f"data/{path.name}")
    with Client(demo_server.grpc_url) as client:
        report = embed_dataset(client, f"s3://{bucket}/data", f"s3://{bucket}/vectors")
        assert (report.shards, report.rows, report.failed_rows, report.failures) == (3, 48, 1, {})
        assert embed_dataset(client, f"s3://{bucket}/data/", f"s3://{bucket}/vectors/").unchanged == 3
        with Index.create(tmp_path / "index", client) as index:
            assert index.add(f"s3://{bucket}/vectors").added == 48
    keys = [found["Key"] for found in store.list_objects_v2(Bucket=bucket, Prefix="vectors/")["Contents"]]
    assert sorted(key for key in keys if not key.endswith("/")) == [
        *(f"vectors/{number:05}.parquet" for number in range(3)),
        "vectors/_00000.errors.jsonl",
        *(f"vectors/_{number:05}.json" for number in range(3)),
        "vectors/_tritonclip.json",
    ]
    store.download_file(bucket, "vectors/00001.parquet", str(tmp_path / "1.parquet"))
    assert pa.parquet.read_table(tmp_path / "1.parquet")["uri"][0].as_py() == f"s3://{bucket}/data/00001.tar#000016.jpg"
