"""``tritonclip evaluate`` on the real server with the trained demo model: its figures are recomputed here by hand.

samples/scenes has labels.csv and captions.csv for its images; the label set "scenes" has the labels "colour shape".
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonclip import Client
from tritonclip.cli import main
from tritonclip_server.embedded.server import Server

SCENES = Path(__file__).parents[2] / "samples" / "scenes"


def rows_of(name: str) -> list[dict[str, str]]:
    with (SCENES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes with a folder for each class, and one file that is no image."""
    root = tmp_path_factory.mktemp("scenes")
    for row in rows_of("labels.csv"):
        folder = root / row["label"]
        folder.mkdir(exist_ok=True)
        shutil.copy(SCENES / row["path"], folder)
    (min(root.iterdir()) / "torn.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return root


def report(server: Server, capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--url", server.grpc_url, "--format", "json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_classification_counts_what_classify_answers(
    demo_server: Server, by_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("labels.csv")
    with Client(demo_server.grpc_url) as client:
        found = client.classify([SCENES / row["path"] for row in rows], label_set="scenes", top_k=5)
    top1 = sum(best[0].label == row["label"] for row, best in zip(rows, found, strict=True))
    top5 = sum(row["label"] in [label.label for label in best] for row, best in zip(rows, found, strict=True))
    assert top1 > len(rows) / 2

    arguments = ["classification", str(by_class), "--label-set", "scenes", "--resume", str(tmp_path / "run.jsonl")]
    measured = report(demo_server, capsys, *arguments, code=1)  # 1, for the torn file
    assert [entry["correct"] for entry in measured["measures"]] == [top1, top5]
    assert (measured["scored"], measured["not_scored"], measured["resumed"]) == (len(rows), 1, 0)
    assert [Path(name).name for name in measured["failures"]] == ["torn.jpg"]
    assert measured["variant"] == "demo"

    again = report(demo_server, capsys, *arguments, code=1)
    assert (again["resumed"], again["measures"]) == (len(rows), measured["measures"])


def test_wrong_labels_are_seen(demo_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same images, each with the next one's label: what is measured is the labels' agreement, and it is gone."""
    rows = rows_of("labels.csv")
    labels = sorted({row["label"] for row in rows})
    following = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
    lines = [f"{SCENES / row['path']},{following[row['label']]}" for row in rows]
    (tmp_path / "shifted.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    shifted = report(
        demo_server, capsys, "classification", str(tmp_path / "shifted.csv"), "--label-set", "scenes", code=0
    )
    assert shifted["measures"][0]["percent"] <= 20


def test_retrieval_ranks_what_the_vectors_say(demo_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("captions.csv")
    names = list(dict.fromkeys(row["path"] for row in rows))
    with Client(demo_server.grpc_url) as client:
        images = client.embed_images([SCENES / name for name in names]).features
        texts = client.embed_texts([row["caption"] for row in rows]).features
    order = np.argsort(-(texts @ images.T), axis=1, kind="stable")
    measured = report(demo_server, capsys, "retrieval", str(SCENES / "captions.csv"), code=0)
    counts = {entry["measure"]: entry["correct"] for entry in measured["measures"]}
    assert (measured["images"], measured["captions"]) == (len(names), len(rows))
    for k in (1, 5, 10):
        hits = sum(row["path"] in [names[i] for i in best[:k]] for row, best in zip(rows, order, strict=True))
        # Vectors of another batch may differ in the last bits, and swap two images that are as good as equal.
        assert counts[f"text-to-image recall@{k}"] == pytest.approx(hits, abs=1)
    assert counts["text-to-image recall@1"] >= len(rows) // 2
