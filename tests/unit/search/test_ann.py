"""The store's own index: what it finds of what exact search finds, under filters and after changes, on real tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from tritonclip import ConfigError
from tritonclip.search import Index
from tritonclip.search._images import Details
from tritonclip.search._items import Item
from tritonclip.search._rows import Row, to_table
from tritonclip.search._schema import Identity
from tritonclip.search._store import Store

ROWS = 3000
WIDTH = 64


def vectors(count: int, seed: int, width: int = WIDTH) -> npt.NDArray[np.float32]:
    """Unit vectors around twenty centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, width))
    found = centres[generator.integers(20, size=count)] + generator.standard_normal((count, width))
    unit: npt.NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def append(store: Store, found: npt.NDArray[np.float32], start: int = 0) -> None:
    """Rows whose ``bytes`` are their number."""
    rows = [
        Row(
            Item(f"/{start + number}.jpg", bytes, start + number, None),
            Details(None, None, start + number, "", None),
            each,
        )
        for number, each in enumerate(found)
    ]
    store.append(to_table(rows, store.schema))


def new_store(folder: Path, width: int = WIDTH, precision: Literal["float32", "float16"] = "float32") -> Store:
    return Store.create(str(folder), Identity("test", None, width, precision, thumbnails=False))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    created = new_store(tmp_path / "ann.index")
    append(created, vectors(ROWS, 1))
    return created


@pytest.fixture
def index(store: Store) -> Iterator[Index]:
    """Built, and too large to be searched exactly unless that is asked for."""
    with Index(store, exact_rows=ROWS - 1) as opened:
        yield opened


def recall(index: Index, queries: npt.NDArray[np.float32], where: str | None = None) -> float:
    shares = []
    for query in queries:
        near, best = (
            {hit.id for hit in index.search(vector=query, top_k=10, where=where, exact=exact)} for exact in (None, True)
        )
        shares.append(len(near & best) / len(best))
    return float(np.mean(shares))


def test_the_reported_recall_is_what_searches_have(index: Index) -> None:
    report = index.build()
    assert report.kind == index.info().ann == "IVF_RQ"
    assert (report.rows, report.queries) == (ROWS, 200)
    assert report.parameters == {"partitions": 55, "bits": 4, "probes": 30, "refine": 2}
    found = index.search(vector=vectors(1, 2)[0])
    assert (found.exact, found.rows, len(found)) == (False, ROWS, 20)
    assert report.recall > 0.9
    assert recall(index, vectors(50, 2)) == pytest.approx(report.recall, abs=0.06)


def test_scores_are_cosines(index: Index) -> None:
    index.build()
    query = vectors(1, 3)[0]
    exact = {hit.id: hit.score for hit in index.search(vector=query, exact=True, top_k=100)}
    for hit in index.search(vector=query, top_k=10):
        assert hit.score == pytest.approx(exact[hit.id], abs=1e-5)


@pytest.mark.parametrize("where", ["bytes = 17", "bytes < 12", "bytes % 300 = 7", "bytes > 5000"])
def test_a_filter_that_few_rows_meet_finds_them_wherever_they_are(index: Index, where: str) -> None:
    index.build()
    for query in vectors(10, 4):
        near, best = (index.search(vector=query, top_k=10, where=where, exact=exact) for exact in (None, True))
        assert not near.exact
        assert [hit.id for hit in near] == [hit.id for hit in best]


def test_recall_falls_where_less_is_looked_at(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report measures: it would be the same if it were made up."""
    monkeypatch.setattr("tritonclip.search._ann._probes", lambda rows: 1)
    assert index.build().recall < 0.8


def test_later_rows_are_found_before_they_are_taken_into_it(index: Index, store: Store) -> None:
    index.build()
    new = vectors(5, 6)
    append(store, new, start=ROWS)
    index.refresh()
    assert index.info().unindexed_rows == 5
    assert [index.search(vector=each, top_k=1)[0].metadata["bytes"] for each in new] == list(range(ROWS, ROWS + 5))
    index.compact()
    assert index.info().unindexed_rows == 0
    assert [index.search(vector=each, top_k=1)[0].metadata["bytes"] for each in new] == list(range(ROWS, ROWS + 5))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("rows", [1, 2, 11])
def test_few_rows_or_equal_ones_are_indexed_too(
    tmp_path: Path, rows: int, precision: Literal["float32", "float16"]
) -> None:
    small = new_store(tmp_path / "small.index", precision=precision)
    append(small, np.repeat(vectors(1, 5), rows, axis=0))
    with Index(small) as opened:
        report = opened.build()
        assert (report.recall, report.queries) == (1.0, rows)
        assert len(opened.search(vector=vectors(1, 5)[0], exact=False)) == rows


def test_what_cannot_be_built_says_why(tmp_path: Path) -> None:
    with Index(new_store(tmp_path / "empty.index")) as empty, pytest.raises(ConfigError, match="no images"):
        empty.build()
    odd = new_store(tmp_path / "odd.index", width=12)
    append(odd, vectors(20, 1, 12))
    with Index(odd) as opened, pytest.raises(ConfigError, match="12 values"):
        opened.build()
