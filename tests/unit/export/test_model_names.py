"""Repositories that are published by a name, for a Triton that carries several models."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.modules import load_module
from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.embedded.repository import check_repositories, encoder_queue
from tritonclip_server.export.classifiers import carry_over
from tritonclip_server.export.cli import main
from tritonclip_server.export.errors import DestinationTaken, LabelSetMismatch
from tritonclip_server.export.label_sets import is_published, publish_label_set
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.export.pipeline import Request, is_current
from tritonclip_server.export.publishing import check_destination
from tritonclip_server.export.recheck import recheck
from tritonclip_server.export.variants import Variant
from tritonclip_server.repository.configs import CONFIG, name_models, read_config
from tritonclip_server.repository.label_sets import label_set_names, stored_label_sets
from tritonclip_server.repository.manifest import is_intact, read_manifest, write_manifest
from tritonclip_server.resources import MODEL_REPOSITORY

TINY = Variant("tiny-convnext", "none")
PETS, BIRDS = Prompts(("cat", "dog"), ("a photo of a {}",)), Prompts(("wren", "crow", "owl"), ("a photo of a {}",))
CPU = torch.device("cpu")
deployed: Any = load_module(MODEL_REPOSITORY / "manifest" / "1" / "deployed.py")


@pytest.fixture
def named(named_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(named_repository, tmp_path / "pair" / "tiny"))


def configs(repository: Path) -> dict[str, ModelConfig]:
    return {path.parent.name: read_config(path) for path in repository.glob(f"*/{CONFIG}")}


def renamed(config: ModelConfig) -> ModelConfig:
    """The config as it would be without the name `tiny`."""
    config.name = config.name.removeprefix("tiny.")
    for step in config.ensemble_scheduling.step:
        assert step.model_name.startswith("tiny.")
        step.model_name = step.model_name.removeprefix("tiny.")
    return config


def check_names(repository: Path, name: str) -> None:
    """That all models go by the name, and that what they are made of is there."""
    found = configs(repository)
    for folder, config in found.items():
        assert folder == config.name
        assert folder.startswith(f"{name}.")
        assert {step.model_name for step in config.ensemble_scheduling.step} <= {*found}
        assert (repository / folder / "1").is_dir()


def test_a_name_changes_names_and_nothing_else(named_repository: Path, tiny_repository: Path) -> None:
    check_names(named_repository, "tiny")
    own = {name.removeprefix("tiny."): renamed(config) for name, config in configs(named_repository).items()}
    assert own == configs(tiny_repository)
    with_name, without = read_manifest(named_repository) or {}, read_manifest(tiny_repository) or {}
    assert with_name["model"] == "tiny"
    assert "model" not in without
    for entry in ("fingerprint", "variant", "probe", "logit_scale", "max_batch_size", "weights_sha256"):
        assert with_name[entry] == without[entry]
    code = {path: digest for path, digest in with_name["artifacts"].items() if path.endswith(".py")}
    assert {path.removeprefix("tiny."): digest for path, digest in code.items()}.items() <= without["artifacts"].items()


def test_what_was_published_by_a_name_is_checked_by_it(named: Path, architectures: None) -> None:
    assert is_intact(named)
    assert deployed.read_deployed(named)["model"] == "tiny"
    assert recheck(Request(TINY, host="cpu", random=True, model="tiny"), named, print)["image_encoder"] > 0.9999
    artifact = named / "tiny.text_encoder" / "1" / "model.pt"
    artifact.write_bytes(artifact.read_bytes()[:-1])
    assert not is_intact(named)
    with pytest.raises(deployed.NotServable, match=r"tiny\.text_encoder/1/model\.pt is damaged"):
        deployed.read_deployed(named)
    artifact.unlink()
    with pytest.raises(RepositoryProblem, match=rf"{named}: tiny\.text_encoder/1/model\.pt missing"):
        check_repositories(named.parent)


def test_a_name_that_was_changed_by_hand_is_found(named: Path) -> None:
    for entries in ({"model": "other"}, {"model": ""}, {"model": "../tiny"}):
        write_manifest((read_manifest(named) or {}) | entries, named)
        with pytest.raises(deployed.NotServable, match="missing"):
            deployed.read_deployed(named)


def test_label_sets_go_by_the_name_too(named: Path) -> None:
    first = publish_label_set(named, "pets", PETS, CPU)
    assert is_published(named, "pets", PETS)
    second = publish_label_set(named, "pets", BIRDS, CPU)
    assert not is_published(named, "pets", PETS)
    check_names(named, "tiny")
    assert stored_label_sets(named) == [second]
    assert label_set_names(named) == ["pets"]
    assert not (named / f"tiny.{first.weights}").exists()
    assert deployed.read_deployed(named)["label_sets"]["pets"]["names"] == [*BIRDS.labels]
    labels = named / "tiny.classify_pets" / second.labels_file
    labels.write_text("hen\n")
    with pytest.raises(deployed.NotServable, match=r"tiny\.classify_pets/labels\S+ does not hold the labels of tiny"):
        deployed.read_deployed(named)
    with pytest.raises(LabelSetMismatch, match=r"damaged.*: pets\. Nothing"):
        carry_over(named, named.parent / "new", second.fingerprint)


@pytest.mark.parametrize("name", ["tiny", "other", None])
def test_label_sets_are_carried_over_whatever_the_new_name(name: str | None, named: Path, tmp_path: Path) -> None:
    label_set = publish_label_set(named, "pets", PETS, CPU)
    new = tmp_path / "new"
    new.mkdir()
    assert carry_over(named, new, label_set.fingerprint) == ["pets"]
    if name is not None:
        name_models(new, name)
        write_manifest({"model": name}, new)
    assert stored_label_sets(new) == [label_set]
    names = {config.name for config in configs(new).values()}
    assert names == {folder if name is None else f"{name}.{folder}" for folder in label_set.folders}
    steps = configs(new)[f"{name}.classify_pets" if name else "classify_pets"].ensemble_scheduling.step
    assert steps[-1].model_name == (f"{name}.{label_set.weights}" if name else label_set.weights)


def test_only_repositories_are_replaced(named: Path) -> None:
    check_destination(named)
    with pytest.raises(DestinationTaken, match="is no served repository"):
        check_destination(named.parent)  # the folder that holds it and others


def test_a_repository_of_another_name_is_not_up_to_date(named: Path) -> None:
    request = Request(TINY, host="cpu", precision="fp32", random=True, model="tiny")
    assert is_current(request, named)
    assert not is_current(Request(TINY, host="cpu", precision="fp32", random=True), named)
    assert request.folder_name == "tiny-convnext-none-random-as-tiny"


@pytest.mark.parametrize("name", ["ViT", "a.b", "a/b", "", "../a"])
def test_names_that_cannot_be_published(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--model", name])
    assert "is no name for a model: lower-case letters" in capsys.readouterr().err


def test_a_folder_of_repositories(named: Path, tiny_repository: Path) -> None:
    (named.parent / "notes").mkdir()
    shutil.copytree(named, named.parent / ".tiny.12345678.partial")  # what an exporter is about to publish
    (only,) = check_repositories(named.parent)
    assert (only.folder, only.name, only.at("grpc://host:1")) == (named, "tiny", "grpc://host:1?model=tiny")
    assert encoder_queue(only.folder) == encoder_queue(tiny_repository)
    (named.parent / "base").symlink_to(tiny_repository)
    unnamed, _ = check_repositories(named.parent)
    assert (unnamed.name, unnamed.at("grpc://host:1")) == (None, "grpc://host:1")
    for name, words in (("tiny", "go by the name tiny"), ("base", "have no name")):
        shutil.copytree(named.parent / name, named.parent / "zwei")
        with pytest.raises(RepositoryProblem, match=rf"{re.escape(str(named.parent / name))} and .*zwei both {words}"):
            check_repositories(named.parent)
        shutil.rmtree(named.parent / "zwei")
