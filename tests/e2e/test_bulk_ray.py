"""A data set on a real Ray, of two workers: what comes of it when workers, servers, files or the output fail.

The server's vectors are decided by an image's bytes alone, so that what must be equal is equal to the byte.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray

from tests.datasets import captioned, cut, files, reasons, write_tar
from tests.unit.client.wire_servers import serve_grpc
from tritonclip import Client
from tritonclip.bulk import DatasetReport, OutputError, embed_dataset
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.testing import FakeServer

pytestmark = pytest.mark.alone

SHARDS, IMAGES, TORN = 6, 60, 5  # the last shard is cut off


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, logging_level=logging.WARNING)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for shard in range(SHARDS):
        images = [b"bad" if number == 7 else b"%d %d" % (shard, number) for number in range(IMAGES)]
        write_tar(folder / f"{shard:05}.tar", captioned(images, shard * IMAGES))
    cut(folder / f"{TORN:05}.tar")
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run in this process writes."""
    folder = tmp_path_factory.mktemp("expected") / "out"
    with Client(transport=FakeServer().transport(), batch_size=8) as client:
        report = embed_dataset(client, str(data), str(folder))
    assert (report.shards, report.rows, report.failed_rows) == (SHARDS - 1, (SHARDS - 1) * (IMAGES - 1), SHARDS - 1)
    return files(folder)


def run(url: str, data: Path, out: Path, **options: object) -> DatasetReport:
    with Client(url, batch_size=8, concurrency=4) as client:
        return embed_dataset(client, str(data), str(out), engine="ray", **options)  # type: ignore[arg-type]


def workers() -> list[psutil.Process]:
    """Processes that have a shard in hand."""
    found = []
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that was killed may not have been buried
            if "_attempt_apart" in " ".join(process.cmdline()):
                found.append(process)
    return found


class Watched(FakeServer):
    """Does something once, when so many images have been asked for, and holds all requests meanwhile."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.left = images
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.before = self._count

    def _count(self, call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs:
            self.left -= len(call.inputs[0].items())
            if self.left <= 0:
                self.reached.set()
                self.go_on.wait(60)


def test_it_writes_the_bytes_that_one_process_writes(data: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    with serve_grpc(FakeServer()) as (url, _):
        report = run(url, data, tmp_path / "out")
        assert list(report.failures) == [f"{TORN:05}"]
        assert "cannot be read beyond byte" in report.failures[f"{TORN:05}"]
        assert files(tmp_path / "out") == expected
        assert reasons(tmp_path / "out", "00000") == {"00000.tar#000007.jpg": "cannot identify the image format"}
        report = run(url, data, tmp_path / "out")
        assert (report.shards, report.unchanged) == (0, SHARDS - 1)
        (tmp_path / "out" / "_00001.json").unlink()
        (tmp_path / "out" / "00001.parquet").unlink()
        (tmp_path / "out" / "00001.parquet" / "in the way").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"00001\.parquet: cannot be written"):
            run(url, data, tmp_path / "out")


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    data: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    server = Watched(IMAGES)
    with serve_grpc(server) as (url, _):
        killed: list[int] = []
        killer = threading.Thread(target=_kill_one, args=(server, killed))
        killer.start()
        report = run(url, data, tmp_path / "out")
        killer.join(60)
    assert len(killed) == 1
    assert (report.shards, len(report.failures)) == (SHARDS - 1, 1)
    assert files(tmp_path / "out") == expected


def _kill_one(server: Watched, killed: list[int]) -> None:
    server.reached.wait(60)
    worker = workers()[0]
    worker.send_signal(signal.SIGKILL)
    killed.append(worker.pid)
    server.go_on.set()


def test_a_shard_whose_worker_always_dies_is_reported_and_stops_no_other(
    data: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    def kill(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs and b"1 30" in call.inputs[0].items():
            for worker in workers():
                worker.send_signal(signal.SIGKILL)

    with serve_grpc(FakeServer(before=kill)) as (url, _):
        report = run(url, data, tmp_path / "out", workers=1)
    assert set(report.failures) == {"00001", f"{TORN:05}"}
    assert "00001.tar: its worker died" in report.failures["00001"]
    written = {name: content for name, content in files(tmp_path / "out").items() if not name.endswith("unfinished")}
    assert written == {name: content for name, content in expected.items() if "00001" not in name}


def test_a_server_that_dies_and_comes_back_is_waited_for(
    data: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    first = Watched(2 * IMAGES)
    reports: list[DatasetReport] = []
    with serve_grpc(first) as (url, _):
        job = threading.Thread(target=lambda: reports.append(run(url, data, tmp_path / "out")))
        job.start()
        assert first.reached.wait(60)
        first.go_on.set()
    with serve_grpc(FakeServer(), port=int(url.rpartition(":")[2])):
        job.join(120)
    assert reports[0].shards == SHARDS - 1
    assert files(tmp_path / "out") == expected
