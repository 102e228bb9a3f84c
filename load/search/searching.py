"""An index of one size: opened, searched exactly and through its ANN index, beside numpy and faiss in turn.

It runs in a process of its own, whose memory tells what the index holds.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import lancedb
import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from load.core.turns import in_turn, ratio, say
from load.search.vectors import Clustered, Matrix
from tritonclip import Client
from tritonclip.search import Index
from tritonclip.testing import FakeServer

CLIENTS = (1, 16)
TOP_K = 10
MIB = 2**20
Search = Callable[[Matrix], object]
Ids = list[NDArray[np.int64]]


@dataclass
class Timed:
    """A way to search, measured again and again by so many clients that ask one after another; `taken` in seconds."""

    search: Search
    queries: Matrix
    clients: int
    taken: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    async def __call__(self) -> float:
        """The median time of a query, in seconds."""
        return await asyncio.to_thread(self._median)

    def _median(self) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(self.clients) as pool:
            taken = list(pool.map(self._one, self.queries))
        self.rates.append(len(taken) / (time.perf_counter() - started))
        self.taken += taken
        return statistics.median(taken)

    def _one(self, query: Matrix) -> float:
        started = time.perf_counter()
        self.search(query)
        return time.perf_counter() - started

    def to_json(self) -> dict[str, float]:
        """Of all rounds together."""
        p50, p99 = np.percentile(self.taken, (50, 99)) * 1000
        return {
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "queries_per_s": round(statistics.median(self.rates), 1),
        }


def fill(folder: Path, data: Clustered) -> float:
    """A new index of these vectors, as if of so many photographs; the seconds that the store took."""
    with Client(transport=FakeServer(width=data.width).transport()) as client:
        Index.create(folder, client, thumbnails=False).close()
    table = lancedb.connect(folder).open_table("images")
    start, seconds = 0, 0.0
    for block in data.blocks():
        numbers = range(start, start + len(block))
        start += len(block)
        known = {
            "id": pa.array([f"{number:020x}" for number in numbers]),
            "uri": pa.array([f"/photos/{number}.jpg" for number in numbers]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), data.width),
            "bytes": pa.array(numbers, pa.int64()),
        }
        columns = [known.get(field.name, pa.nulls(len(block), field.type)) for field in table.schema]
        started = time.perf_counter()
        table.add(pa.Table.from_arrays(columns, schema=table.schema))
        seconds += time.perf_counter() - started
    return round(seconds, 2)


def measure(folder: Path, data: Clustered, count: int, rounds: int) -> dict[str, Any]:
    """Everything about an index of these vectors, by `count` queries a round."""
    queries = data.queries(count)
    found: dict[str, Any] = {"rows": data.rows, "append_s": fill(folder, data), "disk_mib": _disk_mib(folder)}
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    with Index.open(folder, exact_rows=data.rows) as index:
        found["open_ms"] = _ms_since(started)
        index.search(vector=queries[0], top_k=TOP_K)
        found["first_answer_ms"] = _ms_since(started)
        found["memory_mib"] = round((process.memory_info().rss - before) / MIB)
        matrix = data.whole()
        truth = [np.argpartition(matrix @ query, -TOP_K)[-TOP_K:] for query in queries]
        found["exact"] = _exact(index, matrix, queries, truth, rounds)
        found["ann"] = _ann(index, matrix, queries, truth, rounds)
    found["disk_with_ann_mib"] = _disk_mib(folder)
    return found


def _exact(index: Index, matrix: Matrix, queries: Matrix, truth: Ids, rounds: int) -> dict[str, Any]:
    flat = faiss.IndexFlatIP(matrix.shape[1])
    flat.add(matrix)
    search = partial(_numbers, index, exact=True)
    sides: dict[str, Search] = {
        "numpy": lambda query: matrix @ query,
        "index": search,
        "faiss_flat": lambda query: flat.search(query[None], TOP_K),
    }
    return _compare(sides, queries, rounds, base="numpy") | {"recall": _recall(search, queries, truth)}


def _ann(index: Index, matrix: Matrix, queries: Matrix, truth: Ids, rounds: int) -> dict[str, Any]:
    """The store's index, beside faiss' IVF with as many partitions and no lower recall, both of them warm."""
    say("ANN: building both")
    built = index.build()
    search = partial(_numbers, index, exact=False)
    recall = _recall(search, queries, truth)
    started = time.perf_counter()
    partitions = built.parameters["partitions"]
    quantizer = faiss.IndexFlatIP(matrix.shape[1])
    ivf = faiss.IndexIVFFlat(quantizer, matrix.shape[1], partitions, faiss.METRIC_INNER_PRODUCT)
    ivf.train(matrix[:: max(1, len(matrix) // (64 * partitions))])
    ivf.add(matrix)
    seconds = time.perf_counter() - started

    def by_faiss(query: Matrix) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = ivf.search(query[None], TOP_K)[1][0]
        return numbers

    while (faiss_recall := _recall(by_faiss, queries, truth)) < recall and ivf.nprobe < partitions:
        ivf.nprobe = min(partitions, ivf.nprobe + 1 + ivf.nprobe // 5)
    return _compare({"index": search, "faiss_ivf": by_faiss}, queries, rounds, base="faiss_ivf") | {
        "recall": recall,
        "build": {"kind": built.kind, "seconds": built.seconds, "reported_recall": built.recall, **built.parameters},
        "faiss": {"recall": faiss_recall, "seconds": round(seconds, 1), "probes": ivf.nprobe},
    }


def _compare(sides: Mapping[str, Search], queries: Matrix, rounds: int, base: str) -> dict[str, Any]:
    """All ways in turn, by each number of clients; ratios are of the median times, round by round."""
    found: dict[str, Any] = {}
    for clients in CLIENTS:
        say(f"{len(queries)} queries, {clients} clients: {', '.join(sides)}")
        timed = {name: Timed(search, queries, clients) for name, search in sides.items()}
        medians = asyncio.run(in_turn(timed, rounds))
        found[f"clients_{clients}"] = {
            **{name: each.to_json() for name, each in timed.items()},
            f"index_over_{base}": ratio(medians["index"], medians[base]),
        }
    return found


def _numbers(index: Index, query: Matrix, *, exact: bool) -> NDArray[np.int64]:
    """The rows that a search finds: their `bytes` say which."""
    hits = index.search(vector=query, top_k=TOP_K, exact=exact)
    return np.array([hit.metadata["bytes"] for hit in hits])


def _recall(search: Callable[[Matrix], NDArray[np.int64]], queries: Matrix, truth: Ids) -> float:
    found = [len(np.intersect1d(search(query), best)) / TOP_K for query, best in zip(queries, truth, strict=True)]
    return round(statistics.mean(found), 4)


def _disk_mib(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB, 1)


def _ms_since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 1)
