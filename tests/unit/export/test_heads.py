"""Files of trained heads: what is published of them, and which are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.heads import expected_logits, random_head, write_head
from tests.serving import take_as_published
from tritonclip_server.export import heads_cli
from tritonclip_server.export.classifiers import carry_over
from tritonclip_server.export.errors import BadHead, BadLabels, RepositoryDamaged
from tritonclip_server.export.heads import is_published, publish_head, read_head
from tritonclip_server.export.label_sets import publish_label_set
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.repository.check import read_deployed
from tritonclip_server.repository.label_sets import stored_label_sets
from tritonclip_server.repository.manifest import read_manifest

LABELS = ("robin", "wren: small", "Krähe")
WIDTH = 64


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_repository, tmp_path / "served"))


@pytest.fixture
def entries(tiny_repository: Path) -> dict[str, str]:
    fingerprint = (read_manifest(tiny_repository) or {})["fingerprint"]
    return {"fingerprint": fingerprint, "temperature": "2.5", "threshold": "0.25"}


@pytest.fixture
def trained(tmp_path: Path, entries: dict[str, str]) -> Path:
    return random_head(tmp_path / "birds", "birds", LABELS, WIDTH, 1, **entries)


@torch.inference_mode()
def test_what_is_published_computes_what_was_trained(repository: Path, trained: Path) -> None:
    label_set = publish_head(repository, read_head(trained), "birds")
    module = torch.jit.load(repository / label_set.weights / "1" / "model.pt")  # type: ignore[no-untyped-call]
    features = torch.nn.functional.normalize(torch.randn(7, WIDTH))
    logits, probabilities = module(features)
    np.testing.assert_allclose(logits, expected_logits(trained, features.numpy()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(probabilities, logits.softmax(dim=-1))
    assert logits.dtype == probabilities.dtype == torch.float32
    assert read_deployed(repository)["label_sets"]["birds"] == {
        "labels": 3, "names": list(LABELS), "templates": [],
        "kind": "trained", "threshold": 0.25, "edition": label_set.edition,
    }  # fmt: skip


def test_a_retrained_head_replaces_it_as_another_edition(repository: Path, tmp_path: Path, entries: Any) -> None:
    first = publish_head(
        repository, read_head(random_head(tmp_path / "a", "birds", LABELS, WIDTH, 1, **entries)), "birds"
    )
    other = read_head(random_head(tmp_path / "b", "birds", LABELS[::-1], WIDTH, 1, **entries))
    assert not is_published(repository, other, "birds")
    second = publish_head(repository, other, "birds")
    assert is_published(repository, other, "birds")
    assert stored_label_sets(repository) == [second]
    assert first.edition != second.edition
    assert not (repository / first.weights).exists()
    assert publish_head(repository, other, "birds").edition == second.edition
    assert not is_published(repository, read_head(tmp_path / "a"), "birds")
    retold = read_head(write_like(tmp_path / "b", tmp_path / "c", threshold=""))
    assert not is_published(repository, retold, "birds"), "another threshold is another edition"


def write_like(head: Path, folder: Path, **changes: str) -> Path:
    """A copy of a file with other metadata."""
    source = read_head(head)
    entries = {"fingerprint": source.fingerprint, "temperature": str(source.temperature), "threshold": ""} | changes
    return write_head(folder, source.name, source.labels, source.weight.numpy(), source.bias.numpy(), **entries)


def test_a_refusal_by_a_server_puts_back_what_was_there(repository: Path, tmp_path: Path, trained: Path) -> None:
    publish_head(repository, read_head(trained), "birds")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    seen = []

    def refuse() -> None:
        seen.append(stored_label_sets(repository))
        raise RuntimeError("it does not load")

    for name in ("birds", "new"):
        with pytest.raises(RuntimeError, match="does not load"):
            publish_head(repository, read_head(write_like(trained, tmp_path / name)), name, refuse)
        assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert [[each.name for each in stored] for stored in seen] == [["birds"], ["birds", "new"]]
    assert seen[0] != stored_label_sets(repository), "the new one was in its place when the server was asked"
    assert sorted(path.name for path in repository.parent.glob(".served*")) == []


@pytest.mark.parametrize("kinds", ["trained first", "zero-shot first"])
def test_a_name_keeps_its_kind(repository: Path, trained: Path, kinds: str) -> None:
    """Whoever asks by name counts on a cosine, or on there being none."""

    def publish(kind: str) -> None:
        if kind == "trained":
            publish_head(repository, read_head(trained), "birds")
        else:
            publish_label_set(repository, "birds", Prompts(LABELS, ("{}",)), torch.device("cpu"))

    first, second = ("trained", "zero-shot") if kinds == "trained first" else ("zero-shot", "trained")
    publish(first)
    with pytest.raises(BadLabels, match=rf"birds is a {first} label set .* another name"):
        publish(second)


def test_an_export_carries_it_over(repository: Path, trained: Path, tmp_path: Path, entries: dict[str, str]) -> None:
    label_set = publish_head(repository, read_head(trained), "birds")
    (tmp_path / "new").mkdir()
    assert carry_over(repository, tmp_path / "new", entries["fingerprint"]) == ["birds"]
    assert stored_label_sets(tmp_path / "new") == [label_set]


def test_the_command(repository: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--repository", str(repository)]
    assert heads_cli.main([str(trained), *where]) == 0
    assert "published head_birds and classify_birds: 3 labels, trained" in capsys.readouterr().out
    assert heads_cli.main([str(trained / "head.safetensors"), "--if-changed", *where]) == 0
    assert "up to date" in capsys.readouterr().out
    assert heads_cli.main([str(trained), "--name", "more-birds", *where]) == 0
    assert [each.name for each in stored_label_sets(repository)] == ["birds", "more-birds"]
    assert heads_cli.main([str(trained), "--name", "Vögel", *where]) == 1
    assert "no name for a label set" in capsys.readouterr().err
    assert heads_cli.main([str(trained), "--url", "http://localhost", *where]) == 1
    assert "for --activate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "tritonclip-head-2"}, "format is not tritonclip-head-1"),
        ({"labels": "robin"}, "labels are no JSON list"),
        ({"labels": json.dumps({"a": 1})}, "not a list of texts of one line"),
        ({"labels": json.dumps(["robin", "wren\n", "crow"])}, "not a list of texts of one line"),
        ({"labels": json.dumps(["robin", "", "crow"])}, "not a list of texts of one line"),
        ({"labels": json.dumps(["robin", "wren", "robin"])}, "two of its labels are alike"),
        ({"labels": json.dumps(["robin"])}, "one label alone"),
        ({"labels": json.dumps(["robin", "wren"])}, r"2 labels, weight \[3, 64\] and bias \[3\]"),
        ({"labels": json.dumps(["robin", " ", "crow"])}, "not a list of texts of one line"),
        ({"labels": json.dumps(["robin", "\ud800", "crow"])}, "not a list of texts of one line"),
        ({"temperature": "0"}, "temperature is not above 0"),
        ({"temperature": "1e-300"}, "beyond 32 bits"),
        ({"temperature": "nan"}, "temperature is no number"),
        ({"temperature": "warm"}, "temperature is no number"),
        ({"threshold": "1.5"}, "threshold is no probability"),
        ({"threshold": "high"}, "threshold is no number"),
    ],
)
def test_what_a_file_says_must_make_sense(
    tmp_path: Path, entries: dict[str, str], changes: dict[str, str], words: str
) -> None:
    folder = random_head(tmp_path / "bad", "birds", LABELS, WIDTH, 1, **entries | changes)
    with pytest.raises(BadHead, match=rf"bad/head\.safetensors: .*{words}"):
        read_head(folder)


def test_what_a_file_holds_must_be_a_head(trained: Path, tmp_path: Path, entries: dict[str, str]) -> None:
    path = trained / "head.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    metadata = {"format": "tritonclip-head-1", "name": "birds", "labels": json.dumps(LABELS), **entries}
    for content in (whole[:-1], whole[:40], b"", b"no tensors at all"):
        path.write_bytes(content)
        with pytest.raises(BadHead, match="no readable safetensors file"):
            read_head(trained)
    spoilt: list[dict[str, Any]] = [
        {"weight": tensors["weight"]},
        tensors | {"more": tensors["bias"]},
        tensors | {"bias": tensors["bias"].astype(np.float64)},
        tensors | {"weight": np.full_like(tensors["weight"], np.nan)},
        tensors | {"weight": tensors["weight"][None]},
    ]
    for given in spoilt:
        save_file(given, path, metadata)
        with pytest.raises(BadHead):
            read_head(trained)
    with pytest.raises(BadHead, match="nowhere"):
        read_head(tmp_path / "nowhere")


def test_a_head_of_another_encoder_is_refused(repository: Path, tmp_path: Path, entries: dict[str, str]) -> None:
    stranger = random_head(tmp_path / "a", "birds", LABELS, WIDTH, 1, **entries | {"fingerprint": "0123456789abcdef"})
    with pytest.raises(BadHead, match="another encoder, 0123456789abcdef"):
        publish_head(repository, read_head(stranger), "birds")
    wide = random_head(tmp_path / "b", "birds", LABELS, WIDTH + 1, 1, **entries)
    with pytest.raises(BadHead, match="weights of 65 values; features have 64"):
        publish_head(repository, read_head(wide), "birds")
    assert stored_label_sets(repository) == []


def test_a_repository_whose_own_check_knows_no_heads_is_named(repository: Path, trained: Path) -> None:
    """One that an older version exported would not start with it."""
    check = repository / "manifest" / "1" / "deployed.py"
    knows, knew = ('"templates": "a list of texts or none"', '"templates": "a list of texts"')
    check.write_text(check.read_text().replace(knows, knew))
    take_as_published(repository)
    with pytest.raises(
        RepositoryDamaged, match=r"templates is not a list of texts.*exported by an older version.*export VARIANT"
    ):
        publish_head(repository, read_head(trained), "birds")
    assert stored_label_sets(repository) == []
