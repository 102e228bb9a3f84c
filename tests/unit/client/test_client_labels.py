"""Labels, and what a probability among them is worth: several in one string, the same twice, one alone."""

import asyncio
import csv
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.client.conftest import Command
from tritonclip import AsyncClient, Client, ConfigError, InputError
from tritonclip.testing import FakeServer, features_of

SIGMOID = {"logit_scale": 10.0, "logit_bias": -3.0}


def classify(fake: FakeServer, labels: Any = None, **options: Any) -> Any:
    with Client(transport=fake.transport()) as client:
        return client.classify(b"a photo of a cat", labels, **options)


@pytest.mark.parametrize(
    "labels",
    [
        "cat, dog",
        "cat,dog",
        "cat;dog",
        "cat | dog",
        "cat\ndog",
        '["cat", "dog"]',
        "['cat']",
        " [cat] ",
        ",",
    ],
)
def test_several_labels_in_one_string_are_refused(labels: str, fake: FakeServer) -> None:
    with pytest.raises(ConfigError, match="give a list") as caught:
        classify(fake, labels)
    assert repr(labels) in str(caught.value)
    assert fake.requests("embed_text") == []

    async def main() -> Any:
        async with AsyncClient(transport=fake.async_transport()) as client:
            return await client.classify(b"a", labels)

    with pytest.raises(ConfigError, match="give a list"):
        asyncio.run(main())


@pytest.mark.parametrize("label", ["cat", "a big cat", "cat's", "cat (tabby)", "cat/dog", " cat\n", ""])
def test_one_string_that_is_one_label_is_one(label: str, fake: FakeServer) -> None:
    assert [best.label for best in classify(fake, label)[0]] == [label]


def test_a_list_may_hold_what_one_string_may_not(fake: FakeServer) -> None:
    labels = ["cat, asleep", "dog; awake", "[cow]"]
    assert {best.label for best in classify(fake, labels)[0]} == set(labels)
    assert [best.label for best in classify(fake, ["cat, asleep"])[0]] == ["cat, asleep"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "cat"], "label 2: the same as label 0 to the model: 'cat'"),
        (["dog", "cat", "Cat"], "label 2: the same as label 1 to the model: 'Cat'"),
        (["cat", " cat"], "label 1: the same as label 0 to the model: ' cat'"),
        (["big cat", "big \t cat\n"], "label 1: the same as label 0 to the model: 'big \\t cat\\n'"),
        (["big cat", "big\u00a0cat"], "label 1: the same as label 0 to the model: 'big\\xa0cat'"),
        (["", " "], "label 1: the same as label 0 to the model: ' '"),
        (["ÉCLAIR", "éclair"], "label 1: the same as label 0 to the model: 'éclair'"),
    ],
)
def test_labels_that_are_the_same_to_the_model(labels: list[str], message: str, fake: FakeServer) -> None:
    for given in (labels, iter(labels), tuple(labels)):
        with pytest.raises(InputError) as caught:
            classify(fake, given)
        assert str(caught.value) == message
        assert (caught.value.noun, caught.value.index) == ("label", len(labels) - 1)
    assert fake.requests("embed_text") == []


@pytest.mark.parametrize("other", ["salt &amp; pepper", "salt &#38; pepper", "SALT &#x26; PEPPER"])
def test_labels_that_the_models_tokenizer_makes_the_same(
    other: str, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CLIP's does, which repairs texts; features of the same tokens are rounded a little otherwise each time."""
    noise = np.random.default_rng(0)

    def features_of_repaired(item: bytes, width: int) -> NDArray[np.float32]:
        row = features_of(html.unescape(item.decode()).lower().encode(), width)
        return np.asarray(row + noise.uniform(-1e-7, 1e-7, width), np.float32)

    monkeypatch.setattr("tritonclip.testing.features_of", features_of_repaired)
    labels = ["garlic", "salt & pepper", *(f"herb {number}" for number in range(1100)), other]
    with pytest.raises(InputError, match="label 1102: the same as label 1 to the model") as caught:
        classify(fake, labels)
    assert (caught.value.noun, caught.value.index) == ("label", 1102)
    assert len(classify(fake, labels[:-1])[0]) == 1102


@pytest.mark.parametrize("on_truncation", ["warn", "allow"])
@pytest.mark.filterwarnings("ignore::tritonclip.TruncationWarning")
def test_labels_that_are_both_cut_are_kept(
    on_truncation: Any, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would tell them apart is what the model did not read."""
    monkeypatch.setattr("tritonclip.testing.features_of", lambda item, width: features_of(item[:100], width))
    labels = ["word " * 90 + "a", "b", "word " * 90 + "c"]
    assert len(classify(fake, labels, on_truncation=on_truncation)[0]) == 3


@pytest.mark.parametrize(("clean", "differ"), [("lower", False), ("canonicalize", False), ("whitespace", True)])
def test_case_tells_labels_apart_where_the_model_knows_it(clean: str, differ: bool) -> None:
    fake = FakeServer(manifest={"clean": clean})
    if differ:
        assert len(classify(fake, ["polish", "Polish"])[0]) == 2
    else:
        with pytest.raises(InputError, match="label 1"):
            classify(fake, ["polish", "Polish"])
    with pytest.raises(InputError, match="label 1"):
        classify(fake, ["polish", "polish "])


def test_equal_labels_of_a_model_with_a_bias_share_nothing(fake: FakeServer) -> None:
    """Each is judged by itself, so that the same one twice is judged twice alike."""
    fake.manifest |= SIGMOID
    alone = classify(fake, ["cat"])[0][0]
    first, second, dog = classify(fake, ["cat", "dog", "cat"])[0]
    assert [first.index, second.index, dog.index] == [0, 2, 1]
    assert first.probability == pytest.approx(alone.probability)
    assert second.probability == pytest.approx(alone.probability)


@pytest.mark.parametrize("choice", [{"labels": ["cat"]}, {"label_set": "one"}])
def test_one_label_has_its_cosine_and_no_probability(choice: Any) -> None:
    fake = FakeServer(label_sets={"one": ["a photo of a cat"]})
    (best,) = classify(fake, **choice)[0]
    assert best.probability is None
    assert best.cosine == pytest.approx(1)
    assert best.logit == pytest.approx(100)
    fake.manifest |= SIGMOID  # such a model judges each label by itself
    (best,) = classify(fake, **choice)[0]
    assert best.probability == pytest.approx(1 / (1 + np.exp(-7)), abs=1e-6)


def test_the_best_of_several_keeps_its_probability(fake: FakeServer) -> None:
    (best,) = classify(fake, ["cat", "dog"], top_k=1)[0]
    assert best.probability == pytest.approx(1)


@pytest.mark.parametrize("choice", [{"labels": ["cat"]}, {"labels": "cat"}, {"label_set": "one"}])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_threshold_on_no_probability_is_refused(choice: Any, threshold: float) -> None:
    fake = FakeServer(label_sets={"one": ["a photo of a cat"]})
    with pytest.raises(ConfigError, match="min_cosine"):
        classify(fake, **choice, threshold=threshold)
    fake.manifest |= SIGMOID
    assert len(classify(fake, **choice, threshold=threshold)[0]) == (threshold < 1)


@pytest.mark.parametrize("choice", [{"labels": ["cat", "dog", "cow"]}, {"label_set": "animals"}])
def test_min_cosine_judges_each_label_by_itself(choice: Any) -> None:
    names = [f"a photo of a {name}" for name in ("cat", "dog", "cow")]
    fake = FakeServer(label_sets={"animals": names}, manifest={"logit_scale": 2.0})
    everything = classify(fake, **choice)[0]
    for limit in (-1, 0.0, everything[1].cosine - 1e-4, 0.99, 1):
        found = classify(fake, **choice, min_cosine=limit)[0]
        assert found == tuple(best for best in everything if best.cosine >= limit)
    assert [best.label[-3:] for best in classify(fake, **choice, min_cosine=0.99)[0]] == ["cat"]
    with Client(transport=fake.transport()) as client:
        assert client.classify(b"something else", **choice, min_cosine=0.99)[0] == ()  # none of these
        both = client.classify(b"a photo of a cat", **choice, min_cosine=0.9, threshold=0.99)
    assert both[0] == ()  # at this scale no probability is so high


@pytest.mark.parametrize("limit", [1.5, -1.5, float("nan"), float("inf")])
def test_cosines_that_are_none(limit: float, fake: FakeServer) -> None:
    with pytest.raises(ConfigError, match="min_cosine is a cosine"):
        classify(fake, ["a", "b"], min_cosine=limit)
    with pytest.raises(ConfigError, match="threshold is a probability"):
        classify(fake, ["a", "b"], threshold=limit)


@pytest.mark.parametrize("max_batch_size", [64, 2])
def test_comparing_with_one_text_gives_no_probability(max_batch_size: int) -> None:
    images = [b"a cat", b"a dog", b"a cow"]
    fake = FakeServer(max_batch_size=max_batch_size)
    with Client(transport=fake.transport()) as client:
        scores = client.compare(images, "a cat")
        assert np.isnan(scores.probabilities).all()
        assert scores.probabilities.shape == (3, 1)
        assert scores.cosine[0, 0] == pytest.approx(1)
        assert np.isfinite(scores.logits).all()
        assert np.isfinite(client.compare(images, ["a cat", "b"]).probabilities).all()
    fake.manifest |= SIGMOID
    with Client(transport=fake.transport()) as client:
        assert np.isfinite(client.compare(images, "a cat").probabilities).all()


def test_one_label_on_the_command_line(command: Command, photos: Path) -> None:
    one = ["classify", "cat.jpg", "--labels", "cat"]
    assert command(*one, "--format", "json") == 0
    assert json.loads(command.text)[0]["predictions"][0]["probability"] is None
    assert command(*one, "--format", "csv") == 0
    assert next(csv.DictReader(io.StringIO(command.text)))["probability"] == ""
    assert command(*one) == 0
    assert command.text.splitlines()[1].split() == ["cat.jpg", "cat", "-", "1.0000", "100.0000"]
    assert command(*one, "--threshold", "0.5") == 2
    assert "min_cosine" in command.err
    assert command(*one, "--min-cosine", "0.9", "--format", "csv") == 0
    assert command("classify", "dog.jpg", "--labels", "cat", "--min-cosine", "0.9") == 0
    assert "(none of these)" in command.text
    assert command("classify", "cat.jpg", "--labels", "cat,Cat") == 1
    assert "label 1: the same as label 0" in command.err


def test_one_sentence_on_the_command_line(command: Command, photos: Path) -> None:
    rank = ["rank", "cat.jpg", "a photo of a cat"]
    assert command(*rank, "--format", "json") == 0
    assert json.loads(command.text)[0]["probability"] is None
    assert command(*rank, "--format", "csv") == 0
    assert command.text.splitlines()[1].endswith(",,softmax")
    assert command(*rank) == 0
    assert command.text.splitlines()[1].split()[-1] == "-"


@pytest.mark.parametrize(("calibration", "activation"), [({}, "softmax"), (SIGMOID, "sigmoid")])
@pytest.mark.parametrize("asked", [["rank", "cat.jpg", "a cat", "a dog"], ["classify", "cat.jpg", "--labels", "a,b"]])
def test_the_command_line_says_what_a_probability_is(
    command: Command, photos: Path, asked: list[str], calibration: dict[str, float], activation: str
) -> None:
    command.fake.manifest |= calibration
    assert command(*asked) == 0
    assert f"probability ({activation})" in command.text.splitlines()[0]
    assert command(*asked, "--format", "csv") == 0
    assert {row["activation"] for row in csv.DictReader(io.StringIO(command.text))} == {activation}
    assert command(*asked, "--format", "json") == 0
    assert {row["activation"] for row in json.loads(command.text)} == {activation}


def test_a_threshold_judges_each_label_of_a_model_with_a_bias_by_itself(command: Command, photos: Path) -> None:
    """None of these is for the threshold there, and several may fit."""
    command.fake.manifest |= SIGMOID
    labels = ["classify", "cat.jpg", "--labels", "cat,Cat,dog", "--threshold", "0.9", "--format", "json"]
    assert command(*labels) == 0
    (found,) = json.loads(command.text)
    assert [best["label"] for best in found["predictions"]] == ["cat"]
    assert command(*labels, "--template", "the {}") == 0
    assert json.loads(command.text)[0]["predictions"] == []


SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def test_lines_of_files_end_at_line_ends_alone(command: Command, photos: Path) -> None:
    odd = [f"one{separator}label" for separator in SEPARATORS]
    (photos / "labels.txt").write_bytes("\n".join([*odd, ""]).encode())
    assert command("embed", "--texts-from", "labels.txt", "--format", "json") == 0
    assert [item["input"] for item in json.loads(command.text)["items"]] == odd
    (photos / "mixed.txt").write_bytes(b"cat\r\ndog\rcow\n\r\n  \npig")
    assert command("classify", "cat.jpg", "--labels-from", "mixed.txt", "--format", "json") == 0
    predictions = json.loads(command.text)[0]["predictions"]
    assert sorted(entry["label"] for entry in predictions) == ["cat", "cow", "dog", "pig"]
    (photos / "captions.csv").write_bytes(f"path,caption\r\ncat.jpg,{odd[0]}\rdog.jpg,{odd[4]}\n".encode())
    assert command("evaluate", "retrieval", "captions.csv") == 0
    sent = [item.decode() for request in command.fake.requests("embed_text") for item in request.inputs[0].items()]
    assert sent[-2:] == [odd[0], odd[4]]
