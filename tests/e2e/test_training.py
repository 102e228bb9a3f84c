"""``tritonclip train`` on the real server: what its report says is recomputed here from the head and the server."""

import json
from pathlib import Path

import numpy as np
import pytest

from examples.demo_model.tasks import TASKS, TEMPLATE, write_task
from tritonclip import Client
from tritonclip.cli import main
from tritonclip.training import read_head
from tritonclip_server.embedded.server import Server

TASK = TASKS["hatched"]
IMAGES, TESTED = 16, 5  # of each class


def test_a_head_halves_the_errors_of_its_texts_and_its_report_is_true(
    demo_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(TASK, tmp_path / "data", IMAGES, seed=0)
    write_task(TASK, tmp_path / "test", TESTED, seed=1000)
    arguments = [
        "train", str(tmp_path / "data"), "--test", str(tmp_path / "test"), "--name", "hatched",
        "--labels", str(tmp_path / "data" / "labels.txt"), "--output", str(tmp_path / "head"),
        "--url", demo_server.grpc_url, "--format", "json",
    ]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    measured = {entry["measure"]: entry["correct"] for entry in report["measures"]}

    paths = sorted((tmp_path / "test").rglob("*.jpg"))
    labels = np.array([TASK.labels.index(path.parent.name) for path in paths])
    head = read_head(tmp_path / "head")
    with Client(demo_server.grpc_url) as client:
        features = client.embed_images(paths).features
        zero_shot = client.classify(paths, TASK.labels, template=TEMPLATE, top_k=1)
        assert head.fingerprint == client.manifest().fingerprint
    assert report["tested_on"] == len(paths) == TESTED * len(TASK.labels)
    logits = head.logits(features)
    right = int(np.sum(logits.argmax(axis=1) == labels))
    assert measured["top-1"] == right
    assert measured["zero-shot top-1"] == sum(
        best[0].label == path.parent.name for best, path in zip(zero_shot, paths, strict=True)
    )
    assert len(paths) - right < (len(paths) - measured["zero-shot top-1"]) / 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = weights.max(axis=1) / weights.sum(axis=1)
    hit = logits.argmax(axis=1) == labels
    lost, caught, _ = report["threshold_rates"]
    assert (lost["images"], lost["of"]) == (np.sum(confidence[hit] < head.threshold), right)
    assert (caught["images"], caught["of"]) == (np.sum(confidence[~hit] < head.threshold), len(paths) - right)

    assert main(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["from_the_cache"] == (IMAGES + TESTED) * len(TASK.labels)
    assert again["measures"] == report["measures"]
    assert read_head(tmp_path / "head").weight.tobytes() == head.weight.tobytes()
