"""``tritonclip evaluate``: reports in every format, published figures beside measured ones, and wrong usage."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.client.conftest import Command
from tritonclip.evaluation._published import _document
from tritonclip.testing import FakeServer

AUGREG: dict[str, Any] = {"variant": "convnext_base_w-laion2b_s13b_b82k_augreg", "image_size": 256}
LABELS = ["cow", "dog", "owl", "owl"]
CLASSIFY = ["evaluate", "classification", "data", "--label-set", "animals"]


def serve(command: Command, **manifest: Any) -> None:
    command.fake = FakeServer(label_sets={"animals": LABELS}, manifest=manifest)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Path:
    """Seven images of ten are right, and one more is broken; and captions for two images."""
    serve(command, **AUGREG)
    for folder, contents in (("cow", ["cow"] * 4 + ["dog"]), ("dog", ["dog"] * 3 + ["cow"] * 2 + ["bad"])):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number, content in enumerate(contents):
            (tmp_path / "data" / folder / f"{number}.jpg").write_text(content)
    (tmp_path / "captions.csv").write_text("path,caption\ndata/cow/0.jpg,cow\ndata/dog/0.jpg,dog\ndata/dog/0.jpg,cow\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def document(command: Command, *arguments: str, code: int) -> dict[str, Any]:
    assert command(*arguments, "--format", "json") == code
    parsed: dict[str, Any] = json.loads(command.text)
    return parsed


@pytest.mark.usefixtures("data")
def test_classification_as_json(command: Command) -> None:
    report = document(command, *CLASSIFY, code=1)
    assert (report["variant"], report["image_size"], report["fingerprint"]) == (*AUGREG.values(), "fa4e0000")
    assert (report["images"], report["scored"], report["not_scored"], report["resumed"]) == (11, 10, 1, 0)
    assert report["images_per_second"] > 0
    assert report["classes_matched_by"] == "folder names"
    top1, top5 = report["measures"]
    assert top1 == {
        "measure": "top-1",
        "percent": 70.0,
        "low": 39.68,
        "high": 89.22,
        "correct": 7,
        "of": 10,
        "published": None,
        "difference": None,
        "published_inside_interval": None,
    }
    assert (top5["measure"], top5["correct"]) == ("top-5", 10)
    assert [(entry["label"], entry["images"], entry["top-1"]) for entry in report["classes"]] == [
        ("dog", 5, 60.0),
        ("cow", 5, 80.0),
    ]
    assert report["confusions"][0] == {"label": "dog", "taken for": "cow", "images": 2, "of": 5, "percent": 40.0}
    assert report["failures"] == {"dog/5.jpg": "cannot identify the image format"}
    assert command.err == "tritonclip: dog/5.jpg: cannot identify the image format\n"
    assert any("owl (2), owl (3)" in note for note in report["notes"])


@pytest.mark.usefixtures("data")
def test_classification_as_table(command: Command) -> None:
    assert command(*CLASSIFY) == 1
    lines = command.text.splitlines()
    assert lines[0] == f"Zero-shot classification: {AUGREG['variant']}"
    assert "not scored          1" in lines
    header = lines.index("Measured, with 95 % intervals") + 1
    assert lines[header].split() == ["measure", "percent", "low", "high", "correct", "of"]
    assert lines[header + 1].split() == ["top-1", "70.00", "39.68", "89.22", "7", "10"]
    assert lines.index("Classes, the worst first") < lines.index("Confused most often")
    assert "dog    cow" in command.text


@pytest.mark.usefixtures("data")
def test_the_published_figure_stands_beside_the_measured_one(command: Command) -> None:
    report = document(command, *CLASSIFY, "--dataset", "imagenet", code=1)
    top1, top5 = report["measures"]
    assert (top1["published"], top1["difference"], top1["published_inside_interval"]) == (71.5, -1.5, True)
    assert top5["published"] is None
    assert any("model card" in note for note in report["notes"])
    assert "The published figures are over 50000 images of imagenet, these over 11." in report["notes"]
    assert command(*CLASSIFY, "--dataset", "imagenet") == 1
    assert command.text.count("inside the interval") == 1


def test_a_published_figure_outside_the_interval_is_called_so(command: Command, data: Path) -> None:
    for number in range(100):
        (data / "cow" / f"more{number}.jpg").write_text("cow")
    assert command(*CLASSIFY, "--dataset", "imagenet") == 1
    line = next(line for line in command.text.splitlines() if line.startswith("top-1"))
    assert line.endswith("71.50       25.77  OUTSIDE the interval")
    report = document(command, *CLASSIFY, "--dataset", "imagenet", code=1)
    assert report["measures"][0]["published_inside_interval"] is False


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"image_size": 320}, "published for 256 px, and 320 px are deployed"),
        ({"variant": "demo"}, "no published figure of demo"),
        ({"random_weights": True}, "RANDOM WEIGHTS"),
    ],
)
def test_without_a_published_figure_it_says_why(manifest: dict[str, Any], words: str, command: Command) -> None:
    serve(command, **AUGREG | manifest)
    report = document(command, *CLASSIFY, "--dataset", "imagenet", code=1)
    assert report["measures"][0]["published"] is None
    assert any(words in note for note in report["notes"])


@pytest.mark.usefixtures("data")
def test_several_reports_from_one_run(command: Command) -> None:
    files = ["--report", "all.md", "--report", "all.json", "--report", "all.txt"]
    assert command(*CLASSIFY, "--dataset", "imagenet", *files, "--output", "table.txt") == 1
    assert command.out == b""
    assert Path("all.txt").read_text() == Path("table.txt").read_text()
    assert json.loads(Path("all.json").read_text())["scored"] == 10
    markdown = Path("all.md").read_text()
    assert markdown.startswith(f"# Zero-shot classification: {AUGREG['variant']}\n")
    assert "| top-1 | 70.00 | 39.68 | 89.22 | 7 | 10 | 71.50 | -1.50 | inside the interval |" in markdown
    assert "| dog | cow | 2 | 5 | 40.00 |" in markdown
    assert "| dog/5.jpg | cannot identify the image format |" in markdown
    sizes = [len(request.inputs[0].items()) for request in command.fake.requests("classify_animals")]
    assert sizes.count(11) == 1  # the others are halves of it, for the sake of the broken image
    assert command("--format", "markdown", *CLASSIFY, "--dataset", "imagenet") == 1
    assert command.text.splitlines()[0] == markdown.splitlines()[0]


def test_a_long_table_is_cut_on_a_terminal_alone(command: Command, tmp_path: Path) -> None:
    labels = [f"label|{number:02}" for number in range(30)]
    command.fake.store_label_set("animals", labels)
    for label in labels:
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "1.jpg").write_text(label)
    arguments = ["evaluate", "classification", str(tmp_path / "data"), "--label-set", "animals"]
    assert command(*arguments, "--report", str(tmp_path / "all.md")) == 0
    assert "… and 10 more" in command.text
    assert "label|19" in command.text
    assert "label|20" not in command.text
    assert "Confused" not in command.text  # nothing was
    assert "| label\\|29 | 1 | 100.00 |" in (tmp_path / "all.md").read_text()


@pytest.mark.usefixtures("data")
def test_resuming(command: Command) -> None:
    first = document(command, *CLASSIFY, "--resume", "run.jsonl", code=1)
    again = document(command, *CLASSIFY, "--resume", "run.jsonl", code=1)
    assert (again["resumed"], again["scored"]) == (10, 10)
    assert again["measures"] == first["measures"]
    assert command.fake.requests("classify_animals")[-1].inputs[0].items() == [b"bad"]
    command.fake.manifest["fingerprint"] = "another"
    assert command(*CLASSIFY, "--resume", "run.jsonl") == 2
    assert "run.jsonl belongs to another run (fingerprint fa4e0000, now another)" in command.err


@pytest.mark.usefixtures("data")
def test_retrieval(command: Command) -> None:
    report = document(command, "evaluate", "retrieval", "captions.csv", "--dataset", "coco", code=0)
    assert (report["images"], report["captions"]) == (2, 3)
    measures = {entry["measure"]: entry for entry in report["measures"]}
    assert list(measures) == [f"{way} recall@{k}" for way in ("text-to-image", "image-to-text") for k in (1, 5, 10)]
    first = measures["text-to-image recall@1"]
    assert (first["correct"], first["of"], first["published"], first["difference"]) == (2, 3, 43.03, 23.64)
    # "cow" belongs to both images, and stands first for the cow: its first line is the cow's own.
    assert (measures["image-to-text recall@1"]["correct"], measures["image-to-text recall@1"]["of"]) == (2, 2)
    assert command("evaluate", "retrieval", "captions.csv") == 0
    assert command.text.startswith(f"Retrieval: {AUGREG['variant']}\n")


@pytest.mark.usefixtures("data")
def test_retrieval_in_a_folder(command: Command) -> None:
    sentences = {"test": "cow", "val": "dog"}
    images = [
        {"filename": f"{name}/0.jpg", "split": split, "sentences": [{"raw": name}]} for split, name in sentences.items()
    ]
    Path("karpathy.json").write_text(json.dumps({"images": images}))
    for extra, caption in (([], b"cow"), (["--split", "val"], b"dog")):
        assert command("evaluate", "retrieval", "data", "--captions", "karpathy.json", *extra) == 0
        assert command.fake.requests("embed_text")[-1].inputs[0].items() == [caption]


def test_where_nothing_can_be_scored(command: Command, data: Path) -> None:
    for path in data.rglob("*.jpg"):
        path.write_text("bad")
    assert command(*CLASSIFY) == 1
    assert command.err.endswith("tritonclip: data: nothing could be scored\n")
    assert command("evaluate", "retrieval", "captions.csv") == 1
    assert command.err.endswith("tritonclip: captions.csv: nothing could be scored\n")
    assert command.out == b""


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "WHAT"),
        (["evaluate", "classification", "data"], "--label-set"),
        (["evaluate", "classification", "data", "--label-set", "plants"], "it has animals"),
        (["evaluate", "classification", "nothing", "--label-set", "animals"], "nothing: no such file or folder"),
        (["evaluate", "classification", "captions.csv", "--label-set", "animals"], "captions.csv, line 1: expected"),
        ([*CLASSIFY, "--dataset", "coco"], "invalid choice"),
        ([*CLASSIFY, "--class-map", "none.csv"], "none.csv: No such file"),
        ([*CLASSIFY, "--format", "csv"], "choose table, json or markdown"),
        ([*CLASSIFY, "--format", "npy"], "choose table, json or markdown"),
        ([*CLASSIFY, "--report", "out.pdf"], "must end in .md, .json, .txt"),
        ([*CLASSIFY, "--report", "no/out.md"], "no/out.md: there is no such folder"),
        ([*CLASSIFY, "--output", "no/out.md"], "no/out.md: there is no such folder"),
        ([*CLASSIFY, "--resume", "no/run.jsonl"], "no/run.jsonl"),
        (["evaluate", "retrieval", "data"], "neither dataset_*.json"),
        (["evaluate", "retrieval", "captions.csv", "--split", "test"], "for a folder of images"),
        (["rank", "cat.jpg", "a", "--format", "markdown"], "`tritonclip evaluate` alone"),
        (["embed", "cat.jpg", "--format", "markdown"], "`tritonclip evaluate` alone"),
        (["classify", "cat.jpg", "--labels", "a", "--format", "markdown"], "`tritonclip evaluate` alone"),
        (["status", "--format", "markdown"], "`tritonclip evaluate` alone"),
    ],
)
def test_wrong_usage_exits_with_2_before_any_image_is_sent(
    arguments: list[str], message: str, command: Command
) -> None:
    assert command(*arguments) == 2
    assert message in command.err
    assert command.out == b""
    assert command.fake.requests("classify_animals") == command.fake.requests("embed_image") == []


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "classification",
            ["--label-set", "--class-map", "--resume", "--dataset {imagenet}", "--report", "path,label"],
        ),
        ("retrieval", ["--captions", "--split", "--dataset {coco,flickr30k}", "--report", "path,caption"]),
    ],
)
def test_help(what: str, words: list[str], command: Command) -> None:
    assert command("evaluate", what, "--help") == 0
    for word in words:
        assert word in " ".join(command.text.split())


def test_data_sets_with_published_figures_can_be_named(command: Command) -> None:
    choices = []
    for what in ("classification", "retrieval"):
        command("evaluate", what, "--help")
        choices += command.text.split("--dataset {")[1].split("}")[0].split(",")
    assert choices == list(_document()["dataset"])
