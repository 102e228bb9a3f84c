"""The example for Spark in docs/bulk.md, run as it stands, with what it uses of Spark in Spark's place."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tests.datasets import captioned, cut, files, write_tar
from tests.unit.client.wire_servers import serve_grpc
from tritonclip import Client
from tritonclip.bulk import embed_dataset
from tritonclip.testing import FakeServer

PAGE = (Path(__file__).parents[3] / "docs" / "bulk.md").read_text(encoding="utf-8")


class Frame:
    """The numbers of a range, a partition for each."""

    def __init__(self, count: int) -> None:
        self.batches = [pa.RecordBatch.from_pydict({"id": [number]}) for number in range(count)]
        self.rows: list[dict[str, Any]] = []

    def mapInArrow(self, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]], schema: str) -> Any:  # noqa: N802
        for batch in self.batches:
            self.rows += [row for made in function(iter([batch])) for row in made.to_pylist()]
        assert [f"{name} " in f"{schema} " for name in self.rows[0]] == [True] * 4
        return SimpleNamespace(show=lambda: None)


def test_the_example_for_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    frames: list[Frame] = []

    def make(start: int, stop: int, step: int, partitions: int) -> Frame:
        assert partitions == stop - start
        frames.append(Frame(stop))
        return frames[-1]

    sql = ModuleType("pyspark.sql")
    session = SimpleNamespace(range=make)
    sql.SparkSession = SimpleNamespace(builder=SimpleNamespace(getOrCreate=lambda: session))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", sql)
    for shard in range(3):
        write_tar(tmp_path / "data" / f"{shard}.tar", captioned([b"%d" % shard, b"bad"]))
    cut(tmp_path / "data" / "2.tar")
    with serve_grpc(FakeServer()) as (url, _):
        for place, here in (
            ("grpc://triton:8001", url),
            ("s3://bucket/laion", str(tmp_path / "data")),
            ("s3://bucket/vectors", str(tmp_path / "out")),
        ):
            assert place in code
            code = code.replace(place, here)
        exec(compile(code, "bulk.md", "exec"), {})
        (frame,) = frames
        assert [(row["shard"], row["rows"], row["failed"], bool(row["error"])) for row in frame.rows] == [
            ("0", 1, 1, False),
            ("1", 1, 1, False),
            ("2", 0, 0, True),
        ]
        with Client(url) as client:
            embed_dataset(client, str(tmp_path / "data"), str(tmp_path / "here"))
    assert files(tmp_path / "out") == files(tmp_path / "here")
