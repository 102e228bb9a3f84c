"""``tritonclip evaluate`` on the real server with the trained demo model: its figures are recomputed here by hand.

The scenes in samples/scenes are called colour-shape-number.png; the label set "scenes" has the labels "colour shape".
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.server import Server
from tritonclip import Client
from tritonclip.cli import main

SCENES = Path(__file__).parents[2] / "samples" / "scenes"


def label_of(path: Path) -> str:
    colour, shape, _ = path.stem.split("-")
    return f"{colour} {shape}"


@pytest.fixture(scope="module")
def by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes with a folder for each class, and one file that is no image."""
    root = tmp_path_factory.mktemp("scenes")
    for path in sorted(SCENES.glob("*-*-*.png")):
        folder = root / label_of(path)
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder)
    first = min(root.iterdir())
    (first / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    return root


def report(server: Server, capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--url", server.grpc_url, "--format", "json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_classification_counts_what_classify_answers(
    demo_server: Server, by_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(SCENES.glob("*-*-*.png"))
    with Client(demo_server.grpc_url) as client:
        found = client.classify(paths, label_set="scenes", top_k=5)
    top1 = sum(row[0].label == label_of(path) for path, row in zip(paths, found, strict=True))
    top5 = sum(label_of(path) in [best.label for best in row] for path, row in zip(paths, found, strict=True))

    arguments = ["classification", str(by_class), "--label-set", "scenes", "--resume", str(tmp_path / "run.jsonl")]
    measured = report(demo_server, capsys, *arguments, code=1)  # 1, for the torn file
    assert [entry["correct"] for entry in measured["measures"]] == [top1, top5]
    assert (measured["scored"], measured["not_scored"], measured["resumed"]) == (len(paths), 1, 0)
    assert [Path(name).name for name in measured["failures"]] == ["torn.png"]
    assert measured["variant"] == "demo"

    again = report(demo_server, capsys, *arguments, code=1)
    assert (again["resumed"], again["measures"]) == (len(paths), measured["measures"])


def test_the_demo_model_knows_its_scenes(
    demo_server: Server, by_class: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = report(demo_server, capsys, "classification", str(by_class), "--label-set", "scenes", code=1)
    assert measured["measures"][0]["percent"] >= 90


def test_wrong_labels_are_seen(demo_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same images, each with the next one's label: what is measured is the labels' agreement, and it is gone."""
    paths = sorted(SCENES.glob("*-*-*.png"))
    labels = sorted({label_of(path) for path in paths})
    following = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
    lines = [f"{path},{following[label_of(path)]}" for path in paths]
    (tmp_path / "shifted.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    shifted = report(
        demo_server, capsys, "classification", str(tmp_path / "shifted.csv"), "--label-set", "scenes", code=0
    )
    assert shifted["measures"][0]["percent"] <= 20


def test_retrieval_ranks_what_the_vectors_say(demo_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with (SCENES / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
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
