"""The benchmarks of search measure what they say. How large the figures are is for their readers, not for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from load.search import vectors
from load.search.__main__ import aims, main
from load.search.vectors import Clustered

pytestmark = pytest.mark.alone
ROWS = 3000


def test_vectors_are_the_same_in_blocks_and_lie_in_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BLOCK", 1000)
    data = Clustered(2500, 64)
    whole, queries = data.whole(), data.queries(50)
    assert [len(block) for block in data.blocks()] == [1000, 1000, 500]
    np.testing.assert_array_equal(np.concatenate(list(Clustered(2500, 64).blocks())), whole)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    cosines = queries @ whole.T
    assert 0.8 < np.sort(cosines)[:, -1].mean() < 0.95  # its row, which it is not
    assert np.sort(cosines)[:, -10:].mean() > np.median(cosines) + 0.3


def test_it_measures_everything_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--rows", str(ROWS), "--width", "64", "--queries", "20", "--rounds", "2"]) == 0
    (size,) = json.loads(Path("build/search.json").read_text(encoding="utf-8"))["sizes"]
    assert size["exact"]["recall"] == 1.0
    assert size["ann"]["recall"] > 0.8
    assert size["ann"]["faiss"]["recall"] >= size["ann"]["recall"]
    assert size["ann"]["build"]["kind"] == "IVF_RQ"
    assert size["disk_with_ann_mib"] > size["disk_mib"] > ROWS * 64 * 4 / 2**20
    assert 0 < size["open_ms"] < size["first_answer_ms"]
    for kind, base in (("exact", "numpy"), ("ann", "faiss_ivf")):
        for clients in ("clients_1", "clients_16"):
            assert len(size[kind][clients][f"index_over_{base}"]["rounds"]) == 2
            assert 0 < size[kind][clients]["index"]["p50_ms"] <= size[kind][clients]["index"]["p99_ms"]
    printed = capsys.readouterr().out
    assert "| 3,000 | exact, numpy |" in printed
    assert "3,000 rows, exact ÷ numpy, clients_1:" in printed


def test_aims_are_met_or_missed_by_how_much() -> None:
    def size(rows: int, ratio: float, recall: float, p50: float, first: float) -> dict[str, Any]:
        ratios = {"index_over_numpy": {"median": ratio}}
        return {
            "rows": rows,
            "first_answer_ms": first,
            "exact": {"clients_1": ratios, "clients_16": ratios},
            "ann": {"recall": recall, "clients_1": {"index": {"p50_ms": p50}}},
        }

    assert list(aims([size(100_000, 1.3, 0.5, 99.0, 3000.0), size(1_000_000, 1.95, 0.96, 9.0, 9000.0)])) == [
        "100,000 rows, exact ÷ numpy, clients_1: 1.3 (at most 1.3: met)",
        "100,000 rows, exact ÷ numpy, clients_16: 1.3 (at most 1.3: met)",
        "100,000 rows, ms to the first answer: 3000.0 (at most 2000.0: missed by a factor of 1.50)",
        "1,000,000 rows, exact ÷ numpy, clients_1: 1.95 (at most 1.3: missed by a factor of 1.50)",
        "1,000,000 rows, exact ÷ numpy, clients_16: 1.95 (at most 1.3: missed by a factor of 1.50)",
        "1,000,000 rows, ANN: 1 - recall@10: 0.04 (at most 0.05: met)",
        "1,000,000 rows, ANN: p50 ms: 9.0 (at most 10.0: met)",
    ]


def test_ingest_is_measured_beside_embedding(
    demo_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ingest", str(demo_repository), "--images", "40", "--rounds", "2"]) == 0
    found = json.loads(Path("build/search-ingest.json").read_text(encoding="utf-8"))
    assert found["images"] == 40
    assert found["images_per_s"].keys() == {"embed", "add", "add_without_thumbnails"}
    assert len(found["add_over_embed"]["rounds"]) == len(found["add_without_thumbnails_over_embed"]["rounds"]) == 2
