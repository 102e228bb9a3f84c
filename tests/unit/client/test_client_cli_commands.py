"""What ``tritonclip`` embed, rank, classify and status print, in each format."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.client.conftest import Command
from tritonclip.testing import features_of


def test_embed_as_json(command: Command, photos: Path) -> None:
    assert command("embed", "cat.jpg", "dog.jpg", "--format", "json") == 0
    document = json.loads(command.text)
    assert (document["fingerprint"], document["width"]) == ("fa4e0000", 16)
    assert [item["input"] for item in document["items"]] == ["cat.jpg", "dog.jpg"]
    np.testing.assert_allclose(document["items"][1]["features"], features_of(b"a photo of a dog", 16))


def test_embed_as_csv(command: Command, photos: Path) -> None:
    assert command("embed", "--text", 'a "quoted", text', "--text", "猫", "--format", "csv") == 0
    header, *rows = csv.reader(io.StringIO(command.text))
    assert header == ["input", *(f"f{column}" for column in range(16))]
    assert [row[0] for row in rows] == ['a "quoted", text', "猫"]
    np.testing.assert_allclose(np.array(rows[1][1:], dtype=np.float32), features_of("猫".encode(), 16))


def test_embed_as_npy(command: Command, photos: Path) -> None:
    assert command("embed", "cat.jpg", "broken.jpg", "dog.jpg", "--format", "npy") == 1
    array = np.load(io.BytesIO(command.out))
    assert (array.shape, array.dtype) == ((3, 16), np.float32)
    assert np.isnan(array[1]).all()
    assert command("embed", "cat.jpg", "--format", "npy", "--output", "out.npy") == 0
    assert command.out == b""
    np.testing.assert_array_equal(np.load("out.npy"), array[:1])


def test_npy_is_kept_from_terminals(command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command("embed", "cat.jpg", "--format", "npy") == 2
    assert "--output" in command.err
    assert command.fake.calls == []


def test_embed_as_table_with_failures(command: Command, photos: Path) -> None:
    assert command("embed", "cat.jpg", "broken.jpg", "gone.jpg", "dog.jpg") == 1
    assert [line.split()[0] for line in command.text.splitlines()] == ["input", "cat.jpg", "dog.jpg"]
    assert command.err.splitlines() == [
        "tritonclip: broken.jpg: cannot identify the image format",
        "tritonclip: gone.jpg: No such file or directory: gone.jpg",
    ]


def test_failures_in_json_stand_in_their_place(command: Command, photos: Path) -> None:
    assert command("embed", "broken.jpg", "dog.jpg", "--format", "json") == 1
    items = json.loads(command.text)["items"]
    assert "cannot identify" in items[0]["error"]
    assert len(items[1]["features"]) == 16


def test_rank_sorts_by_probability(command: Command, photos: Path) -> None:
    sentences = ["a photo of a dog", "a photo of a cow", "a photo of a cat"]
    assert command("rank", "cat.jpg", *sentences, "--format", "json") == 0
    rows = json.loads(command.text)
    assert list(rows[0]) == ["image", "text", "cosine", "logit", "probability", "activation"]
    assert rows[0]["text"] == "a photo of a cat"
    assert rows[0]["cosine"] == pytest.approx(1)
    probabilities = [row["probability"] for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sorted(row["text"] for row in rows) == sorted(sentences)


def test_rank_of_several_images(command: Command, photos: Path) -> None:
    (photos / "more.txt").write_text("\ufeffa photo of a cat\n\n  \na photo of a dog\r\n", encoding="utf-8")
    arguments = ["--image", "dog.jpg", "--image", "cat.jpg", "--image", "broken.jpg", "--texts-from", "more.txt"]
    assert command("rank", *arguments, "something else", "--format", "csv") == 1
    rows = list(csv.reader(io.StringIO(command.text)))[1:]
    assert [(row[0], row[1]) for row in rows[::3]] == [
        ("dog.jpg", "a photo of a dog"),
        ("cat.jpg", "a photo of a cat"),
    ]
    assert len(rows) == 6
    assert command.err == "tritonclip: broken.jpg: cannot identify the image format\n"


def test_rank_as_table(command: Command, photos: Path) -> None:
    assert command("rank", "cat.jpg", "a photo of a cat", "no") == 0
    assert command.text.splitlines()[1].split()[-2:] == ["100.0000", "1.0000"]


def test_classify(command: Command, photos: Path) -> None:
    arguments = ["cat.jpg", "broken.jpg", "dog.jpg", "--labels", "cow, dog,cat,", "--top-k", "1"]
    assert command("classify", *arguments, "--format", "json") == 1
    cat, broken, dog = json.loads(command.text)
    assert [entry["label"] for entry in cat["predictions"]] == ["cat"]
    assert [entry["label"] for entry in dog["predictions"]] == ["dog"]
    assert "cannot identify" in broken["error"]
    assert command("classify", *arguments) == 1
    assert [line.split()[:2] for line in command.text.splitlines()[1:]] == [["cat.jpg", "cat"], ["dog.jpg", "dog"]]
    assert command("classify", "cat.jpg", "--labels", "cat", "--template", "the {}", "--format", "csv") == 0
    assert command.fake.requests("embed_text")[-1].inputs[0].items() == [b"the cat"]
    (photos / "labels.txt").write_text("dog\ncat\n")
    assert command("classify", "cat.jpg", "--labels-from", "labels.txt", "--format", "csv") == 0
    assert command.text.splitlines()[1].startswith("cat.jpg,cat,")


def test_classify_by_a_label_set(command: Command, photos: Path) -> None:
    command.fake.store_label_set("animals", ["cow", "a photo of a dog"])
    assert command("classify", "dog.jpg", "--label-set", "animals", "--top-k", "1", "--format", "csv") == 0
    assert command.text.splitlines()[1].startswith("dog.jpg,a photo of a dog,1.0,")
    assert command("classify", "dog.jpg", "--label-set", "plants") == 2
    assert "it has animals" in command.err
    assert command("status") == 0
    assert "animals, 2 labels, softmax" in command.text


def test_classify_with_a_threshold(command: Command, photos: Path) -> None:
    command.fake.manifest["logit_scale"] = 1.0
    arguments = ["classify", "cat.jpg", "--labels", "cow,pig", "--threshold", "0.9"]
    assert command(*arguments) == 0
    assert command.text.splitlines()[1] == "cat.jpg  (none of these)"
    assert command(*arguments, "--format", "json") == 0
    assert json.loads(command.text) == [{"image": "cat.jpg", "activation": "softmax", "predictions": []}]


def test_status_as_table(command: Command) -> None:
    command("embed", "--text", "a", "--text", "b", "--text", "c")
    assert command("status") == 0
    lines = {line.split()[0]: line.split()[1:] for line in command.text.splitlines() if line}
    assert lines["server"][:2] == ["triton", "0.0.0-fake"]
    assert lines["variant"] == ["fake"]
    assert lines["precision"] == ["fp32"]
    assert lines["activation"] == ["softmax"]
    assert lines["fingerprint"] == ["fa4e0000"]
    assert "embed_image" in lines["ready"]
    assert lines["embed_text"] == ["3", "1", "3.0000", "0.5000", "2.0000"]
    assert "RANDOM" not in command.text


def test_status_is_loud_about_random_weights_and_models_that_are_missing(command: Command) -> None:
    command.fake.manifest["random_weights"] = True
    command.fake.not_ready |= {"image_encoder", "compare"}
    assert command("status") == 1
    assert command.text.startswith("*** RANDOM WEIGHTS")
    assert "NOT READY        compare image_encoder" in command.text


def test_status_as_json_and_csv(command: Command) -> None:
    assert command("status", "--format", "json") == 0
    document = json.loads(command.text)
    assert document["manifest"]["fingerprint"] == "fa4e0000"
    assert document["models"]["embed_image"] is True
    assert {entry["name"] for entry in document["statistics"]} >= {"embed_image", "compare"}
    assert all("mean_batch" in entry for entry in document["statistics"])
    assert command("status", "--format", "csv") == 0
    assert command.text.splitlines()[0] == "model,items,executions,mean batch,queue ms,compute ms"


def test_status_without_the_admin_key(command: Command) -> None:
    command.fake.admin_key = "sesame"
    assert command("status") == 0
    assert "give the admin key" in command.text
    assert "TRITONCLIP_ADMIN_KEY" in command.text
    assert command("status", "--format", "csv") == 0
    assert "give the admin key" in command.err


def test_status_of_a_server_without_a_manifest(command: Command) -> None:
    command.fake.not_ready.add("manifest")
    assert command("status") == 1
    assert "manifest         none" in command.text
