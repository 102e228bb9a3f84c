"""Whole evaluations on a fake server: what is sent, what is counted, and how an interrupted run goes on."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tritonclip import Client, ConfigError, ProtocolError, UnavailableError
from tritonclip.evaluation import (
    ClassificationResult,
    LabelledImage,
    Proportion,
    RetrievalResult,
    evaluate_classification,
    evaluate_retrieval,
    read_captioned,
)
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer, features_of

LABELS = ["cow", "dog", "cat", "owl", "pig", "hen", "fox"]


@pytest.fixture
def animals() -> FakeServer:
    return FakeServer(label_sets={"animals": LABELS})


def images(root: Path, *contents: tuple[str, str]) -> list[LabelledImage]:
    """Images from pairs of a label and of what the image shows; a fake server sees what is written in it."""
    made = []
    for number, (label, content) in enumerate(contents):
        path = root / f"{number}.jpg"
        path.write_bytes(content.encode())
        made.append(LabelledImage(path.name, path, LABELS.index(label)))
    return made


def many(root: Path, count: int = 100) -> list[LabelledImage]:
    return images(root, *((LABELS[number % 7], LABELS[number % 5]) for number in range(count)))


def evaluate(
    server: FakeServer, data: list[LabelledImage], resume: Path | None = None, concurrency: int = 4
) -> ClassificationResult:
    with Client(transport=server.transport()) as client:
        return evaluate_classification(client, data, "animals", resume=resume, concurrency=concurrency)


def sent(server: FakeServer) -> Counter[bytes]:
    return Counter(item for request in server.requests("classify_animals") for item in request.inputs[0].items())


def test_what_is_right_and_what_is_wrong(animals: FakeServer, tmp_path: Path) -> None:
    data = images(tmp_path, ("cow", "cow"), ("dog", "dog"), ("dog", "cat"), ("owl", "owl"))
    result = evaluate(animals, data)
    assert (result.top(1), result.failures, result.resumed) == (Proportion(3, 4), {}, 0)
    assert [(label, best[0]) for label, best in result.answers] == [(0, 0), (1, 1), (1, 2), (3, 3)]
    cosines = np.stack([features_of(label.encode(), 16) for label in LABELS]) @ features_of(b"cat", 16)
    assert result.answers[2][1] == tuple(np.argsort(-cosines)[:5])
    assert result.confusions[0].images == Proportion(1, 2)
    assert result.images_per_second is not None
    assert all(request.classes == {"logits": 5} for request in animals.requests("classify_animals"))


def test_everything_is_sent_once_in_batches_and_answers_keep_their_places(animals: FakeServer, tmp_path: Path) -> None:
    data = many(tmp_path)
    result = evaluate(animals, data)
    assert sent(animals) == Counter(image.path.read_bytes() for image in data)
    assert max(len(request.inputs[0].items()) for request in animals.requests("classify_animals")) == 16
    assert [(label, best[0]) for label, best in result.answers] == [(n % 7, n % 5) for n in range(100)]


def test_a_set_of_fewer_labels_than_five(tmp_path: Path) -> None:
    data = images(tmp_path, ("cow", "dog"), ("dog", "dog"))
    result = evaluate(FakeServer(label_sets={"animals": LABELS[:2]}), data)
    assert (result.top(1), result.top(5)) == (Proportion(1, 2), Proportion(2, 2))


def test_images_that_fail_count_as_neither_right_nor_wrong(animals: FakeServer, tmp_path: Path) -> None:
    data = images(tmp_path, ("cow", "cow"), ("dog", "bad"), ("dog", "dog"), ("cow", "dog"))
    data[2].path.unlink()
    result = evaluate(animals, data)
    assert result.top(1) == Proportion(1, 2)
    assert list(result.failures) == ["1.jpg", "2.jpg"]
    assert "cannot identify" in str(result.failures["1.jpg"])
    assert "No such file" in str(result.failures["2.jpg"])
    assert [score.label for score in result.classes] == [0]


def test_a_request_that_fails_is_reported_and_tried_again_by_the_next_run(animals: FakeServer, tmp_path: Path) -> None:
    data, journal = many(tmp_path, 40), tmp_path / "run.jsonl"
    calls = itertools.count()

    def refuse_one(call: Call) -> None:  # through all attempts of the client
        if isinstance(call, InferRequest) and call.model == "classify_animals" and next(calls) < 3:
            raise status_error("INTERNAL", "out of memory", call.model)

    animals.before = refuse_one
    first = evaluate(animals, data, journal, concurrency=1)
    assert (len(first.answers), len(first.failures)) == (24, 16)
    second = evaluate(animals, data, journal)
    assert (len(second.answers), len(second.failures), second.resumed) == (40, 0, 24)
    assert second.answers == evaluate(animals, data).answers


def interrupt(journal: Path, lines: int) -> Callable[[Call], None]:
    """Stops a run, like Ctrl-C does, once the journal has so many lines."""
    calls = iter(range(10**6))

    def before(call: Call) -> None:
        if not isinstance(call, InferRequest) or call.model != "classify_animals" or next(calls) < 2:
            return
        deadline = time.monotonic() + 30
        while journal.read_bytes().count(b"\n") < lines and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt

    return before


def test_an_interrupted_run_goes_on_with_the_rest_alone(animals: FakeServer, tmp_path: Path) -> None:
    data, journal = many(tmp_path), tmp_path / "run.jsonl"
    for number, image in enumerate(data):
        image.path.write_bytes(image.path.read_bytes() + b"!" * number)  # all different
    expected = evaluate(FakeServer(label_sets={"animals": LABELS}), data)
    animals.before = interrupt(journal, 1 + 32)
    with pytest.raises(KeyboardInterrupt):
        evaluate(animals, data, journal, concurrency=1)
    done = [json.loads(line)["image"] for line in journal.read_text().splitlines()[1:]]
    assert len(done) == 32

    again = FakeServer(label_sets={"animals": LABELS})
    result = evaluate(again, data, journal)
    assert sent(again) == Counter(image.path.read_bytes() for image in data if image.name not in done)
    assert (result.resumed, result.answers) == (32, expected.answers)

    finished = FakeServer(label_sets={"animals": LABELS})
    result = evaluate(finished, data, journal)
    assert sent(finished) == Counter()
    assert (result.answers, result.images_per_second) == (expected.answers, None)


def test_a_line_that_was_cut_off_is_done_again(animals: FakeServer, tmp_path: Path) -> None:
    data, journal = many(tmp_path, 20), tmp_path / "run.jsonl"
    expected = evaluate(animals, data, journal)
    whole = journal.read_bytes()
    # In the last entry, and in the first line, that of the run.
    for cut, missing in ((len(whole) - 3, 1), (whole.index(b"\n") - 5, 20)):
        journal.write_bytes(whole[:cut])
        again = FakeServer(label_sets={"animals": LABELS})
        assert evaluate(again, data, journal).answers == expected.answers
        assert sent(again).total() == missing
        assert sorted(journal.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_answers_of_another_run_are_refused(animals: FakeServer, tmp_path: Path) -> None:
    data, journal = many(tmp_path, 20), tmp_path / "run.jsonl"
    evaluate(animals, data, journal)
    before = journal.read_bytes()
    relabelled = [*data[:-1], LabelledImage(data[-1].name, data[-1].path, 0)]
    for server, images_now, words in (
        (FakeServer(label_sets={"animals": LABELS}, manifest={"fingerprint": "new"}), data, "fa4e0000, now new"),
        (FakeServer(label_sets={"animals": LABELS[::-1]}), data, "labels_sha256"),
        (animals, data[:-1], "data_sha256"),
        (animals, relabelled, "data_sha256"),
        (FakeServer(label_sets={"animals": LABELS}, manifest={"fingerprint": None}), data, "say its fingerprint"),
    ):
        with pytest.raises(ConfigError, match=words):
            evaluate(server, images_now, journal)
        assert journal.read_bytes() == before


@pytest.mark.parametrize("content", ["some notes", "some notes\n", "[]\n", '{"tritonclip_journal":1}\n'])
def test_a_file_that_is_no_journal_is_left_alone(content: str, animals: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(ConfigError, match="not the journal of an evaluation"):
        evaluate(animals, many(tmp_path, 3), file)
    assert file.read_text() == content


def test_a_journal_that_is_damaged_names_the_line(animals: FakeServer, tmp_path: Path) -> None:
    data, journal = many(tmp_path, 3), tmp_path / "run.jsonl"
    evaluate(animals, data, journal)
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:2], '{"image": "x"}', *lines[2:]]) + "\n")
    with pytest.raises(ConfigError, match=r"run\.jsonl, line 3"):
        evaluate(animals, data, journal)


def test_a_model_that_is_replaced_meanwhile_ends_the_run(animals: FakeServer, tmp_path: Path) -> None:
    def replace(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "classify_animals":
            animals.manifest["fingerprint"] = "another"

    animals.before = replace
    with pytest.raises(ProtocolError, match="changed during the run"):
        evaluate(animals, many(tmp_path), concurrency=1)


def test_a_label_set_that_is_replaced_meanwhile_ends_the_run(animals: FakeServer, tmp_path: Path) -> None:
    animals.manifest["revision"] = "1"
    animals.manifest["label_sets"]["animals"]["edition"] = "old"

    def replace(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "classify_animals":
            animals.manifest["revision"] = "2"
            animals.manifest["label_sets"]["animals"]["edition"] = "new"

    animals.before = replace
    with pytest.raises(ProtocolError, match="label set animals was replaced on the server during the run"):
        evaluate(animals, many(tmp_path), concurrency=1)


def test_a_server_that_goes_away_ends_the_run(animals: FakeServer, tmp_path: Path) -> None:
    animals.failures.append(status_error("UNAVAILABLE", "full", "manifest"))
    data = many(tmp_path, 3)
    assert len(evaluate(animals, data).answers) == 3  # retried
    gone = status_error("UNAVAILABLE", "gone", retry_after=1e6)  # for longer than anybody waits
    animals.before = lambda call: animals.failures.append(gone)
    with pytest.raises(UnavailableError):
        evaluate(animals, data)


def retrieve(server: FakeServer, file: Path) -> RetrievalResult:
    with Client(transport=server.transport()) as client:
        return evaluate_retrieval(client, read_captioned(file))


def captioned(root: Path, rows: list[tuple[str, str]]) -> Path:
    """A data set whose image files hold their own names."""
    for name, _ in rows:
        (root / name).write_bytes(name.encode())
    file = root / "captions.csv"
    file.write_text("path,caption\n" + "".join(f"{name},{caption}\n" for name, caption in rows))
    return file


def test_recall_equals_a_plain_computation(fake: FakeServer, tmp_path: Path) -> None:
    rows = [(f"{image}.jpg", f"caption {number} of {image}") for image in range(30) for number in range(1 + image % 3)]
    rows += [("0.jpg", "0.jpg"), ("1.jpg", "2.jpg")]  # one that fits, and one that fits another image exactly
    result = retrieve(fake, captioned(tmp_path, rows))
    names = list(dict.fromkeys(name for name, _ in rows))
    cosine = {
        (name, row): float(features_of(name.encode(), 16) @ features_of(caption.encode(), 16))
        for name in names
        for row, (_, caption) in enumerate(rows)
    }
    for k in (1, 5, 10):
        found = 0
        for row, (own, _) in enumerate(rows):
            found += own in sorted(names, key=lambda name: -cosine[name, row])[:k]
        assert result.recall_text_to_image(k) == Proportion(found, len(rows))
        found = 0
        for name in names:
            best = sorted(range(len(rows)), key=lambda row: -cosine[name, row])[:k]
            found += any(rows[row][0] == name for row in best)
        assert result.recall_image_to_text(k) == Proportion(found, len(names))
    assert result.text_to_image[-2] == 0
    assert result.text_to_image[-1] > 0


def test_captions_are_embedded_as_they_are(fake: FakeServer, tmp_path: Path) -> None:
    retrieve(fake, captioned(tmp_path, [("a.jpg", "An A. "), ("b.jpg", "a b")]))
    assert fake.requests("embed_text")[0].inputs[0].items() == [b"An A. ", b"a b"]


def test_what_fails_is_neither_query_nor_answer(tmp_path: Path) -> None:
    def refuse(noun: str, item: bytes) -> str | None:
        return "refused" if item in (b"b.jpg", b"too long") else None

    rows = [("a.jpg", "a.jpg"), ("b.jpg", "b"), ("c.jpg", "too long"), ("d.jpg", "c.jpg"), ("b.jpg", "a.jpg")]
    result = retrieve(FakeServer(refuse=refuse), captioned(tmp_path, rows))
    assert {name: str(error) for name, error in result.failures.items()} == {
        "b.jpg": "image 1: refused",
        "caption 3 of c.jpg": "text 2: refused",
    }
    # Left: the images a, c, d; the captions "a.jpg" of a, and "c.jpg" of d. Image c lost its caption, and still stands
    # before d for "c.jpg".
    assert result.text_to_image[0] == 0
    assert result.text_to_image[1] >= 1
    assert len(result.image_to_text) == 2
    assert result.image_to_text[0] == 0
    assert result.scored


def test_vectors_of_two_models_are_not_mixed(fake: FakeServer, tmp_path: Path) -> None:
    file = captioned(tmp_path, [("a.jpg", "a")])

    def replace(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "embed_text":
            fake.manifest["fingerprint"] = "another"

    fake.before = replace
    with pytest.raises(ProtocolError, match="changed during the run"):
        retrieve(fake, file)
