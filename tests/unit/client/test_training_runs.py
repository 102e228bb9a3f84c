"""``tritonclip train`` on a server in memory whose vectors mean something: what is asked, kept, left out, refused."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from tests.unit.client.conftest import Command
from tests.waiting import wait_for
from tritonclip import Client, ConfigError, ProtocolError
from tritonclip.protocol.messages import Call, FloatArray, InferRequest, InferResponse, Reply, Tensor
from tritonclip.testing import FakeServer, features_of
from tritonclip.training import Training, read_head, read_texts, train_head
from tritonclip.training._cache import FeatureCache, digest_of, other_models

ANIMALS = ("cat", "dog", "owl", "pig")
FINGERPRINT = "fa4e0000"


class Zoo(FakeServer):
    """An image or a text that names an animal has that animal's direction, and noise of its own; texts have little."""

    def answer(self, call: Call, admin_key: str | None = None) -> Reply:
        reply = super().answer(call, admin_key)
        if isinstance(call, InferRequest) and call.model in ("embed_image", "embed_text"):
            ((tensor,), noise) = call.inputs, 0.3 if call.model == "embed_text" else 0.8
            rows = np.stack([self.vector(item, noise) for item in tensor.items()])
            return InferResponse((Tensor.from_array(call.outputs[0], rows),))
        return reply

    def vector(self, item: bytes, noise: float) -> FloatArray:
        own = noise * features_of(item, self.width)
        for name in ANIMALS:
            if name.encode() in item:
                own = own + features_of(name.encode(), self.width)
        return (own / np.linalg.norm(own)).astype(np.float32)


@pytest.fixture
def zoo(command: Command) -> Zoo:
    command.fake = server = Zoo()
    return server


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fifteen images of each of four animals; labels.txt; templates.txt."""
    write(tmp_path / "data", 15)
    (tmp_path / "labels.txt").write_text("\n".join(ANIMALS) + "\n")
    (tmp_path / "templates.txt").write_text("a photo of a {}\na drawing of a {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def write(folder: Path, images: int, animals: Sequence[str] = ANIMALS) -> None:
    for animal in animals:
        (folder / animal).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            (folder / animal / f"{number:02}.jpg").write_text(f"{folder.name} {animal} {number}")


def train(server: FakeServer, **options: Any) -> Training:
    with Client(transport=server.transport()) as client:
        return train_head(client, Path("data"), "animals", cache=Path("cache"), **options)


def sent(server: FakeServer, model: str = "embed_image") -> int:
    return sum(request.inputs[0].shape[0] for request in server.requests(model))


TEXTS = ("--labels", "labels.txt", "--templates", "templates.txt")
TRAIN = ("train", "data", "--name", "animals", "--output", "heads/animals")


@pytest.mark.usefixtures("data")
def test_a_head_and_its_report_are_written(zoo: Zoo, command: Command) -> None:
    assert command(*TRAIN, *TEXTS, "--format", "json") == 0
    report = json.loads(command.text)
    assert (report["trained_on"], report["tested_on"], report["labels"]) == (48, 12, 4)
    assert [entry["measure"] for entry in report["measures"]] == ["top-1", "zero-shot top-1"]
    assert [row["images a class"] for row in report["learning_curve"]] == ["1", "2", "4", "8", "all"]
    assert {row["label"] for row in report["classes"]} == set(ANIMALS)
    folder = Path("heads/animals")
    assert json.loads((folder / "report.json").read_text())["measures"] == report["measures"]
    assert "## The head minus zero-shot, on the same images" in (folder / "report.md").read_text()
    assert Image.open(folder / "report.png").width > 1000
    assert Image.open(folder / "wrong.png").width > 1000
    head = read_head(folder)
    assert (head.name, head.labels, head.fingerprint) == ("animals", ANIMALS, FINGERPRINT)
    assert head.made["texts"]["templates"] == ["a photo of a {}", "a drawing of a {}"]
    assert head.made["images"]["by_class"] == dict.fromkeys(ANIMALS, 12)
    assert len(head.made["cross_validation"]["trials"]) > 8
    assert head.threshold == report["threshold"]
    right = sum(
        ANIMALS[int(head.logits(zoo.vector(path.read_bytes(), 0.8)[None]).argmax())] == path.parent.name
        for path in Path("data").rglob("*.jpg")
    )
    assert right > 54
    assert command(*TRAIN, *TEXTS) == 0
    assert "Trained head animals: fake" in command.text
    assert "tritonclip-server head heads/animals" in command.err


@pytest.mark.usefixtures("data")
def test_the_prior_is_the_mean_of_the_templates_features(zoo: Zoo) -> None:
    """Where the texts are perfect the head is theirs; by hand, from the same vectors."""
    zoo.vector = lambda item, noise: Zoo.vector(zoo, item, 0.05)  # type: ignore[method-assign]
    found = train(zoo, texts=read_texts(Path("labels.txt"), Path("templates.txt")))
    prompts = [[template.format(name) for template in ("a photo of a {}", "a drawing of a {}")] for name in ANIMALS]
    means = np.array([[zoo.vector(prompt.encode(), 0.3) for prompt in row] for row in prompts]).mean(axis=1)
    assert found.measured.fit.strength == np.inf
    expected = 100 * means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found.head.weight, expected, rtol=1e-5)
    assert not found.head.bias.any()


@pytest.mark.usefixtures("data")
def test_a_models_bias_changes_no_probability_of_a_head(zoo: Zoo) -> None:
    """It is the same for every label, and a head's probabilities are a softmax, also of a model with a sigmoid."""
    texts = read_texts(Path("labels.txt"), Path("templates.txt"))
    without = train(zoo, texts=texts)
    zoo.manifest["logit_bias"] = -10.0
    found = train(zoo, texts=texts)
    assert found.head.threshold == pytest.approx(without.head.threshold, abs=2e-3)
    assert found.measured.calibration.after == pytest.approx(without.measured.calibration.after, abs=2e-3)
    features = np.stack([zoo.vector(path.read_bytes(), 0.8) for path in sorted(Path("data").rglob("*.jpg"))])
    logits, others = found.head.logits(features), without.head.logits(features)
    np.testing.assert_allclose(softmax(logits, axis=1), softmax(others, axis=1), atol=2e-3)


@pytest.mark.usefixtures("data")
def test_without_texts_the_labels_are_the_folders(zoo: Zoo) -> None:
    found = train(zoo)
    assert found.head.labels == ANIMALS
    assert (found.measured.zero_shot, found.head.made["texts"]) == (None, None)
    assert sent(zoo, "embed_text") == 0


@pytest.mark.usefixtures("data")
def test_a_stored_label_set_gives_its_labels_and_templates(zoo: Zoo, command: Command) -> None:
    zoo.store_label_set("animals", ANIMALS)
    assert command(*TRAIN, "--label-set", "animals") == 0
    assert read_head(Path("heads/animals")).made["texts"] == {"labels": "animals", "templates": ["{}"]}


@pytest.mark.usefixtures("data")
def test_the_same_seed_gives_the_same_head_and_another_one_another(zoo: Zoo) -> None:
    one, again, other = train(zoo, seed=1), train(zoo, seed=1), train(zoo, seed=2)
    assert one.head.weight.tobytes() == again.head.weight.tobytes()
    assert one.head.weight.tobytes() != other.head.weight.tobytes()


@pytest.mark.usefixtures("data")
def test_what_was_embedded_is_not_asked_for_again_though_the_run_was_killed(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = FeatureCache.add

    def die(cache: FeatureCache, digests: Iterable[bytes], rows: FloatArray) -> None:
        add(cache, digests, rows)
        if len(cache) > 16:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FeatureCache, "add", die)
        with pytest.raises(KeyboardInterrupt):
            train(zoo)
    # What was on the wire ends by itself: it is counted before, not after.
    wait_for(lambda: not any(thread.name.startswith("tritonclip-batches") for thread in threading.enumerate()))
    before = sent(zoo)
    kept = train(zoo).cached
    assert kept in (28, 32)  # two batches
    assert sent(zoo) - before == 60 - kept
    assert train(zoo).cached == 60
    assert sent(zoo) - before == 60 - kept


@pytest.mark.usefixtures("data")
def test_another_models_vectors_are_never_used(zoo: Zoo, command: Command) -> None:
    assert command(*TRAIN) == 0
    zoo.manifest["fingerprint"] = "other000"
    assert command(*TRAIN, "--format", "json") == 0
    assert json.loads(command.text)["from_the_cache"] == 0
    assert f"vectors of other models, which are not used: {FINGERPRINT}" in command.err
    assert read_head(Path("heads/animals")).fingerprint == "other000"


@pytest.mark.usefixtures("data")
def test_a_model_that_changes_during_the_run_ends_it_and_poisons_no_cache(zoo: Zoo) -> None:
    def change(call: Call) -> None:
        if sent(zoo) > 32:
            zoo.manifest["fingerprint"] = "other000"

    zoo.before = change
    with pytest.raises(ProtocolError, match="fingerprint fa4e0000, now other000"):
        train(zoo)
    zoo.before, zoo.manifest["fingerprint"] = None, FINGERPRINT
    with FeatureCache(Path("cache"), FINGERPRINT, zoo.width) as cache:
        assert len(cache) <= 48


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("fingerprint", "reason"), [(None, "does not say its fingerprint"), ("../up", "'../up'")])
def test_a_server_must_say_which_model_it_runs(zoo: Zoo, fingerprint: str | None, reason: str) -> None:
    zoo.manifest["fingerprint"] = fingerprint
    with pytest.raises((ConfigError, ProtocolError), match=reason):
        train(zoo)
    assert sent(zoo) == 0


def test_a_cache_survives_what_happens_to_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    digests = [digest_of(bytes([number]), "image") for number in range(3)]
    with FeatureCache(tmp_path, "one", 4) as cache:
        cache.add(digests, rows)
        path = cache.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])  # killed while it wrote the last one
    with FeatureCache(tmp_path, "one", 4) as cache:
        assert [digest in cache for digest in digests] == [True, True, False]
        np.testing.assert_array_equal(cache.rows(digests[:2]), rows[:2])
        cache.add(digests[2:], rows[2:])
    assert path.read_bytes() == whole
    damaged = bytearray(whole)
    damaged[-60] ^= 1  # in the last record but one
    path.write_bytes(damaged)
    with FeatureCache(tmp_path, "one", 4) as cache:
        assert [digest in cache for digest in digests] == [True, False, True]
    path.write_bytes(b"somebody's notes\n")
    with pytest.raises(ConfigError, match="it was left as it is"):
        FeatureCache(tmp_path, "one", 4)
    assert path.read_bytes() == b"somebody's notes\n"
    with FeatureCache(tmp_path, "two", 4) as cache:
        assert len(cache) == 0
    assert other_models(tmp_path, "two") == ["one"]
    assert digest_of(b"cat", "image") != digest_of(b"cat", "text")


@pytest.mark.usefixtures("data")
def test_images_that_cannot_be_used_are_named_and_the_others_are(zoo: Zoo, command: Command) -> None:
    Path("data/cat/torn.jpg").write_text("bad")
    Path("data/dog/gone.jpg").symlink_to("nowhere")
    Path("data/dog/copy.jpg").write_bytes(Path("data/dog/03.jpg").read_bytes())
    assert command(*TRAIN, "--format", "json") == 1
    report = json.loads(command.text)
    assert (report["not_embedded"], report["left_out"]) == (2, 1)
    assert set(report["failures"]) == {"data/cat/torn.jpg", "data/dog/gone.jpg"}
    assert "data/cat/torn.jpg: cannot identify the image format" in command.err
    assert "data/dog/gone.jpg: No such file" in command.err
    assert "copy.jpg: the same image is there already" in command.err or "03.jpg: the same" in command.err


@pytest.mark.usefixtures("data")
def test_images_to_test_on_are_none_of_those_trained_on(zoo: Zoo, command: Command) -> None:
    write(Path("other"), 5)
    Path("other/cat/leaked.jpg").write_bytes(Path("data/cat/03.jpg").read_bytes())
    assert command(*TRAIN, "--test", "other", "--format", "json") == 0
    report = json.loads(command.text)
    assert (report["trained_on"], report["tested_on"], report["left_out"]) == (60, 20, 1)
    assert "other/cat/leaked.jpg: among the images trained on; left out of the test" in command.err
    assert command(*TRAIN, "--test", "data") == 2
    assert "every image to test on is among those to train on" in command.err


@pytest.mark.usefixtures("data", "zoo")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--name", "My Birds"), "'My Birds' is no name for a head"),
        (("--seed", "-1"), "a seed is a whole number from 0, not -1"),
        (("--test-share", "1.5"), "the share to test on is between 0 and 1, not 1.5"),
        (("--labels", "few.txt"), "not in label set 'few.txt': owl, pig"),
        (("--labels", "more.txt"), "no image of yak: add some"),
        (("--labels", "twice.txt"), "there more than once: 'cat'"),
        (("--labels", "labels.txt", "--templates", "bad.txt"), "does not have exactly one {}"),
        (("--labels", "nowhere.txt"), "nowhere.txt: No such file"),
        (("--label-set", "birds"), "the server has no label set 'birds'"),
        (("--label-set", "birds", "--labels", "labels.txt"), "give one of them"),
        (("--templates", "templates.txt"), "--templates goes with --labels"),
        (("--test", "data", "--test-share", "0.5"), "give one of them"),
        (("--output", "labels.txt"), "that is a file"),
        (("--format", "csv"), "choose table, json or markdown"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], reason: str, command: Command) -> None:
    for name, lines in (
        ("few.txt", ["cat", "dog"]),
        ("more.txt", [*ANIMALS, "yak"]),
        ("twice.txt", [*ANIMALS, "cat"]),
        ("bad.txt", ["a photo"]),
    ):
        Path(name).write_text("\n".join(lines))
    assert command(*TRAIN, *arguments) == 2
    assert reason in command.err
    assert not Path("heads/animals/head.safetensors").exists()


@pytest.mark.usefixtures("zoo")
def test_data_that_teaches_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(reason: str) -> None:
        assert command(*TRAIN) == 2
        assert reason in command.err

    write(Path("data"), 2, ["cat"])
    refused("there is only 'cat'")
    write(Path("data"), 1, ["dog"])
    Path("data/dog/00.jpg").write_bytes(Path("data/cat/00.jpg").read_bytes())
    refused("the same image under two labels, so one of them is wrong: data/cat/00.jpg and data/dog/00.jpg")
    Path("data/dog/00.jpg").write_text("bad")
    refused("no image of dog: add some, or leave such labels out (1 images failed; data/dog/00.jpg: ")
    Path("data/dog/00.jpg").write_text("dog")
    refused("too few images: with 3 of 2 classes a share of 0.2")
    (Path("data") / "owl").mkdir()
    refused("class folders without an image: owl")
    assert command("train", "data", "--name", "animals") == 2
    assert "give --output FOLDER" in command.err


def test_one_image_of_each_class_is_enough_where_there_are_others_to_test_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Zoo, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("data"), 1)
    write(Path("other"), 20)
    assert command(*TRAIN, "--test", "other") == 0
    assert "no strength could be compared" in command.text
    assert "Too few images were right" in command.text
    assert read_head(Path("heads/animals")).threshold is None


def test_a_head_is_read_as_it_was_written_and_damage_is_seen(tmp_path: Path, zoo: Zoo, data: Path) -> None:
    head = train(zoo).head
    head.write(tmp_path)
    again = read_head(tmp_path)
    for name in ("name", "labels", "fingerprint", "temperature", "threshold"):
        assert getattr(again, name) == getattr(head, name)
    np.testing.assert_array_equal(again.weight, head.weight)
    np.testing.assert_array_equal(again.bias, head.bias)
    with pytest.raises(ConfigError, match="`tritonclip train` writes one"):
        read_head(tmp_path / "data")
    path = tmp_path / "head.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-4], b"", whole.replace(b"tritonclip-head-1", b"tritonclip-head-9")):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"head\.safetensors"):
            read_head(tmp_path)


def test_without_the_extra_the_remedy_is_named(data: Path) -> None:
    code = (
        "import sys\nsys.modules['scipy'] = None\nfrom tritonclip.cli import main\n"
        "sys.exit(main(['train', 'data', '--name', 'animals', '--output', 'heads']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=data.parent, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        'tritonclip: training needs SciPy: pip install "tritonclip[train]"\n',
    )
    code = "import sys, tritonclip.cli._parser; assert not {'scipy', 'safetensors', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
