"""Label sets in a served repository: their values, their place, and what happens to them when it changes."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.zero_shot_classifier import build_zero_shot_classifier
from torch.nn import functional

from tests.modules import load_module
from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.embedded.repository import check_repository
from tritonclip_server.export import classifiers, labels_cli, remove_cli
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.classifiers import carry_over, remove_classifier
from tritonclip_server.export.errors import BadLabels, LabelSetMismatch, RepositoryDamaged, RepositoryNotFound
from tritonclip_server.export.label_sets import is_published, publish_label_set
from tritonclip_server.export.label_sources import Prompts, read_templates
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import Variant
from tritonclip_server.repository.configs import read_config, write_config
from tritonclip_server.repository.label_sets import stored_label_sets
from tritonclip_server.repository.manifest import read_manifest
from tritonclip_server.resources import MODEL_REPOSITORY

CPU = torch.device("cpu")
deployed = load_module(MODEL_REPOSITORY / "manifest" / "1" / "deployed.py")
REFUSALS = ((RepositoryProblem, check_repository), (deployed.NotServable, deployed.read_deployed))
"""The launcher's and Triton's own."""
PROMPTS = Prompts(("cat", "dog: small", "ein Bär", "rocket"), ("a photo of a {}.", "{}", "art of the {}"))


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    """A repository of this test's own."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "served"))


@pytest.fixture(scope="module")
def with_animals(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = Path(shutil.copytree(tiny_repository, tmp_path_factory.mktemp("labelled") / "served"))
    publish_label_set(repository, "animals", PROMPTS, CPU)
    return repository


@pytest.fixture
def labelled(with_animals: Path, tmp_path: Path) -> Path:
    """A repository with the label set `animals`, whose files can be replaced."""
    return Path(shutil.copytree(with_animals, tmp_path / "served", copy_function=os.link))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def head(repository: Path, name: str) -> Any:
    (path,) = repository.glob(f"head_{name}.*/1/model.pt")
    return torch.jit.load(path)  # type: ignore[no-untyped-call]


@torch.inference_mode()
def test_a_head_is_open_clips_zero_shot_classifier(repository: Path, reference: Checkpoint) -> None:
    prompts = Prompts(PROMPTS.labels, read_templates("openai"))
    publish_label_set(repository, "animals", prompts, CPU)
    expected = build_zero_shot_classifier(
        reference.model, reference.tokenizer, prompts.labels, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    module = head(repository, "animals")
    assert functional.cosine_similarity(module.label_features, expected.T).min() >= 0.9999
    images = functional.normalize(torch.randn(5, 64))
    logits, probabilities = module(images)
    torch.testing.assert_close(logits, reference.logit_scale * images @ expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(probabilities, logits.softmax(dim=-1))


def test_what_is_published(repository: Path) -> None:
    before = tree(repository)
    label_set = publish_label_set(repository, "animals", PROMPTS, CPU)
    after = tree(repository)
    added = {Path(name).parts[0] for name in after.keys() - before.keys()}
    weights = f"head_animals.{label_set.edition}"
    assert added == {"head_animals", weights, "classify_animals"} == label_set.folders
    assert {name: after[name] for name in before} == before
    for model in added:
        config = read_config(repository / model / "config.pbtxt")
        assert config.name == model
        file = "" if model == weights else label_set.labels_file
        assert [(o.name, list(o.dims), o.label_filename) for o in config.output] == [
            ("logits", [4], file), ("probabilities", [4], file),
        ]  # fmt: skip
        if file:
            assert (repository / model / file).read_text().splitlines() == list(PROMPTS.labels)
            assert config.ensemble_scheduling.step[-1].model_name == weights
    assert stored_label_sets(repository) == [label_set]
    assert is_published(repository, "animals", PROMPTS)
    assert not is_published(repository, "animals", Prompts(PROMPTS.labels, ("{}",)))
    assert not is_published(repository, "pets", PROMPTS)
    manifest = deployed.read_deployed(repository)
    assert manifest["label_sets"] == {
        "animals": {
            "labels": 4, "names": list(PROMPTS.labels), "templates": list(PROMPTS.templates),
            "kind": "zero-shot", "threshold": None, "edition": label_set.edition,
        }
    }  # fmt: skip
    check_repository(repository)
    assert [path.name for path in repository.parent.iterdir()] == ["served"]


def test_a_label_set_replaces_the_one_of_its_name_and_no_other(repository: Path) -> None:
    publish_label_set(repository, "pets", PROMPTS, CPU)
    pets = {name: data for name, data in tree(repository).items() if "pets" in name}
    publish_label_set(repository, "animals", PROMPTS, CPU)
    publish_label_set(repository, "animals", Prompts(("cow",), ("{}",)), CPU)
    assert [(s.name, len(s.labels)) for s in stored_label_sets(repository)] == [("animals", 1), ("pets", 4)]
    assert {name: data for name, data in tree(repository).items() if "pets" in name} == pets


def test_a_failure_leaves_the_repository_as_it_was(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(repository)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(classifiers, "trace", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        publish_label_set(repository, "animals", PROMPTS, CPU)
    assert tree(repository) == before
    assert [path.name for path in repository.parent.iterdir()] == ["served"]


@pytest.mark.parametrize("name", ["", "Animals", "../animals", "a/b", "a b", "-a", "x" * 65])
def test_names_that_cannot_be_models(name: str, repository: Path) -> None:
    with pytest.raises(BadLabels, match="no name for a label set"):
        publish_label_set(repository, name, PROMPTS, CPU)


def test_a_label_that_the_tokenizer_refuses_is_named(repository: Path) -> None:
    with pytest.raises(BadLabels, match=r"label 'ddd.*more than the limit"):
        publish_label_set(repository, "animals", Prompts(("cat", "d" * 70_000), ("{}",)), CPU)


def test_a_folder_that_is_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RepositoryNotFound, match="no served repository"):
        publish_label_set(tmp_path, "animals", PROMPTS, CPU)
    assert labels_cli.main(["animals", "--labels", "imagenet", "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_command(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    arguments = ["pets", "--labels", str(tmp_path / "labels.txt"), "--templates", "simple"]
    arguments += ["--repository", str(repository)]
    assert labels_cli.main(arguments) == 0
    assert "published head_pets and classify_pets: 2 labels under 7 templates" in capsys.readouterr().out
    assert labels_cli.main([*arguments, "--if-changed"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_an_export_keeps_label_sets_that_fit_and_refuses_those_that_do_not(repository: Path) -> None:
    def publish(precision: str, **options: Any) -> None:
        request = Request(Variant("tiny-convnext", "none"), host="cpu", precision=precision, random=True)
        export(request, repository, report=lambda step: None, **options)

    label_set = publish_label_set(repository, "animals", PROMPTS, CPU)
    publish("fp32")
    assert stored_label_sets(repository) == [label_set]
    before = tree(repository)
    with pytest.raises(LabelSetMismatch, match=r"another fingerprint.*animals.*--drop-label-sets"):
        publish("bf16")
    assert tree(repository) == before
    publish("bf16", drop_label_sets=True)
    assert stored_label_sets(repository) == []
    assert list(repository.glob("*_animals")) == []


def spoil(repository: Path, **changes: Any) -> None:
    """Change what the record of the label set says."""
    path = repository / "head_animals" / "1" / "label_set.json"
    record = json.loads(path.read_text()) | changes
    path.unlink()  # it is a link to what other tests use
    path.write_text(json.dumps(record))


def test_a_head_of_another_encoder_is_not_served(labelled: Path) -> None:
    spoil(labelled, fingerprint="0123456789abcdef")
    for error, read in REFUSALS:
        with pytest.raises(error, match="head_animals was made for another encoder, 0123456789abcdef"):
            read(labelled)


@pytest.mark.parametrize(
    "pattern", ["head_animals/1/label_set.json", "head_animals.*/1/model.pt", "classify_animals/labels.*.txt"]
)
def test_a_label_set_that_is_not_whole_is_not_served(pattern: str, labelled: Path) -> None:
    (path,) = labelled.glob(pattern)
    path.unlink()
    file = re.escape(str(path.relative_to(labelled)))
    for error, read in REFUSALS:
        with pytest.raises(error, match=f"{file}.*tritonclip-server labels"):
            read(labelled)
    assert not is_published(labelled, "animals", PROMPTS)
    with pytest.raises(LabelSetMismatch, match=r"damaged.*animals.*--drop-label-sets"):
        carry_over(labelled, labelled.parent / "new", "any")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": "cat"}, "labels is not a list of texts"),
        ({"labels": ["cat", 3, "dog", "cow"]}, "labels is not a list of texts"),
        ({"labels": ["cat"]}, r"head_animals/labels\.\w+\.txt does not hold the labels of head_animals"),
        ({"templates": []}, "templates is not a list of texts"),
        ({"templates": None}, "templates is not a list of texts"),
        ({"fingerprint": 7}, "fingerprint is not a text"),
        ({"name": "pets"}, "head_animals holds the label set pets"),
        ({"model_sha256": "0" * 64}, r"head_animals\.\w+/1/model.pt is damaged"),
        ({"edition": "other"}, r"head_animals\.other/1/model.pt missing"),
        ({"kind": "guessed"}, "kind is not zero-shot or trained"),
        ({"threshold": 1.5}, "threshold is not a probability or null"),
    ],
)
def test_a_record_that_is_wrong_is_named_with_its_field(changes: dict[str, Any], words: str, labelled: Path) -> None:
    spoil(labelled, **changes)
    for error, read in REFUSALS:
        with pytest.raises(error, match=words):
            read(labelled)
    assert not is_published(labelled, "animals", PROMPTS)


def test_a_damaged_classifier_is_made_again(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    command = ["pets", "--labels", str(tmp_path / "labels.txt"), "--templates", "simple", "--if-changed"]
    command += ["--repository", str(repository)]
    assert labels_cli.main(command) == 0
    (path,) = repository.glob("head_pets.*/1/model.pt")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RepositoryProblem, match=r"head_pets\.\w+/1/model.pt is damaged"):
        check_repository(repository)
    assert labels_cli.main(command) == 0
    check_repository(repository)


def test_labels_are_not_made_by_a_damaged_encoder(repository: Path) -> None:
    path = repository / "text_encoder" / "1" / "model.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RepositoryDamaged, match="tritonclip-server export VARIANT"):
        publish_label_set(repository, "animals", PROMPTS, CPU)
    assert list(repository.glob("head_*")) == []


def test_a_label_that_the_model_would_not_read_to_its_end_is_named(repository: Path) -> None:
    prompts = Prompts(("cat", "dog " * 60), ("a {}", "a photo of the large {}" + " in the garden" * 6))
    with pytest.raises(BadLabels, match=r"label 'dog dog.*'a photo of.*has 85 tokens, more than the 77.*cut"):
        publish_label_set(repository, "animals", prompts, CPU)


def test_labels_that_the_model_cannot_tell_apart_are_named(repository: Path) -> None:
    with pytest.raises(BadLabels, match="'Ein  Bär' and 'ein bär' are one label to the model"):
        publish_label_set(repository, "animals", Prompts(("Ein  Bär", "cat", "ein bär"), ("a {}",)), CPU)


def as_an_older_version_has_it(repository: Path) -> None:
    """Rewrite the label set as versions without editions published it: two models, the weights in the head itself."""
    (label_set,) = stored_label_sets(repository)
    head, classify = (repository / model for model in label_set.models)
    shutil.move(repository / label_set.weights / "1" / "model.pt", head / "1" / "model.pt")
    config = read_config(repository / label_set.weights / "config.pbtxt")
    ensemble = read_config(classify / "config.pbtxt")
    config.name = ensemble.ensemble_scheduling.step[-1].model_name = head.name
    for model, changed in ((head, config), (classify, ensemble)):
        (model / "config.pbtxt").unlink()  # a link to what other tests use
        for output in changed.output:
            output.label_filename = "labels.txt"
        write_config(changed, model / "config.pbtxt")
        (model / label_set.labels_file).rename(model / "labels.txt")
    shutil.rmtree(repository / label_set.weights)
    path = head / "1" / "label_set.json"
    record = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps({key: record[key] for key in record if key not in ("kind", "threshold", "edition")}))


def test_a_label_set_without_an_edition_is_served_kept_and_replaced(labelled: Path, tmp_path: Path) -> None:
    as_an_older_version_has_it(labelled)
    for read in (check_repository, deployed.read_deployed):
        told = read(labelled)["label_sets"]["animals"]
        assert (told["labels"], told["kind"], told["edition"]) == (4, "zero-shot", "")
    (tmp_path / "new").mkdir()
    fingerprint = (read_manifest(labelled) or {})["fingerprint"]
    assert carry_over(labelled, tmp_path / "new", fingerprint) == ["animals"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"head_animals", "classify_animals"}
    assert not is_published(labelled, "animals", PROMPTS)
    label_set = publish_label_set(labelled, "animals", PROMPTS, CPU)
    assert {path.name for path in labelled.glob("*_animals*")} == label_set.folders
    assert is_published(labelled, "animals", PROMPTS)


@pytest.mark.parametrize("spoil", [None, "classify_animals", "head_animals/1/label_set.json"])
def test_a_label_set_is_removed_whole_and_no_other_with_it(labelled: Path, tmp_path: Path, spoil: str | None) -> None:
    before = tree(labelled)
    publish_label_set(labelled, "animals-2", PROMPTS, CPU)
    if spoil is not None:
        victim = labelled / spoil
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    os.utime(labelled / "manifest" / "1", ns=(0, 0))  # long ago: times may differ by no less than a tick
    remove_classifier(labelled, "animals")
    assert [label_set.name for label_set in stored_label_sets(labelled)] == ["animals-2"]
    assert list(check_repository(labelled)["label_sets"]) == ["animals-2"]
    assert (labelled / "manifest" / "1").stat().st_mtime_ns > 0, "Triton would not read it again"
    remove_classifier(labelled, "animals-2")
    assert tree(labelled) == {path: data for path, data in before.items() if "_animals" not in path}
    assert [*labelled.parent.glob(".*")] == []


def test_an_older_versions_label_set_is_removed(labelled: Path) -> None:
    as_an_older_version_has_it(labelled)
    remove_classifier(labelled, "animals")
    assert [*labelled.glob("*_animals*")] == []


def test_a_refusal_by_a_server_puts_back_what_was_removed(labelled: Path) -> None:
    before, seen = tree(labelled), list[Path]()

    def refuse() -> None:
        seen.extend(labelled.glob("*_animals*"))
        raise RuntimeError("it does not load")

    with pytest.raises(RuntimeError, match="does not load"):
        remove_classifier(labelled, "animals", refuse)
    assert (tree(labelled), seen) == (before, [])


def test_the_command_that_removes(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--repository", str(labelled)]
    assert remove_cli.main(["animal", *where]) == 1
    assert f"{labelled} has no label set 'animal'; it has animals" in capsys.readouterr().err
    assert remove_cli.main(["../animals", *where]) == 1
    assert remove_cli.main(["animals", "--url", "http://localhost", *where]) == 1
    assert "are for --activate" in capsys.readouterr().err
    assert len(stored_label_sets(labelled)) == 1
    assert remove_cli.main(["animals", *where]) == 0
    assert capsys.readouterr().out == f"removed animals from {labelled}\n"
    assert remove_cli.main(["animals", *where]) == 1
    assert "it has none" in capsys.readouterr().err
    assert remove_cli.main(["animals", "--repository", str(tmp_path / "nowhere")]) == 1
