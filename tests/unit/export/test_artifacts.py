"""What was published is what is served: digests of the artifacts, checked by the launcher, Triton and the exporter."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.modules import load_module
from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.embedded.repository import check_repository
from tritonclip_server.export.pipeline import Request, is_current
from tritonclip_server.export.variants import Variant
from tritonclip_server.repository.manifest import ARTIFACTS
from tritonclip_server.resources import MODEL_REPOSITORY

deployed = load_module(MODEL_REPOSITORY / "manifest" / "1" / "deployed.py")
REFUSALS = ((RepositoryProblem, check_repository), (deployed.NotServable, deployed.read_deployed))
"""The launcher's and Triton's own."""
REQUEST = Request(
    Variant("tiny-convnext", "none"), host="cpu", precision="fp32", random=True
)  # as tiny_repository is made


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    """A repository whose files can be replaced."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "served", copy_function=os.link))


def replace(path: Path, data: bytes) -> None:
    path.unlink()  # it is a link to what other tests use
    path.write_bytes(data)


def test_the_manifest_has_the_digest_of_every_artifact(repository: Path) -> None:
    manifest = json.loads((repository / "manifest.json").read_text())
    assert set(ARTIFACTS) == set(deployed.ARTIFACTS)
    for name, digest in manifest["artifacts"].items():
        assert hashlib.sha256((repository / name).read_bytes()).hexdigest() == digest
    served = {str(path.relative_to(repository)) for path in repository.glob("*/1/*") if path.suffix}
    assert set(manifest["artifacts"]) == served
    assert served > {*ARTIFACTS, "image_preprocess/1/preprocess.py", "text_gate/1/model.py"}
    assert deployed.read_deployed(repository)["fingerprint"] == check_repository(repository)["fingerprint"]
    assert is_current(REQUEST, repository)


@pytest.mark.parametrize("name", [*ARTIFACTS, "image_preprocess/1/resample.py"])
def test_a_damaged_artifact_is_named_by_whoever_would_serve_it(name: str, repository: Path) -> None:
    data = (repository / name).read_bytes()
    middle, size = len(data) // 2, min(200_000, len(data) // 4)
    for damaged in (data[:middle] + bytes(size) + data[middle + size :], data[:-1], data + b"\0", b""):
        replace(repository / name, damaged)
        for error, read in REFUSALS:
            with pytest.raises(
                error, match=f"{name} is damaged, or not the file that was published.*tritonclip-server export"
            ):
                read(repository)
        assert not is_current(REQUEST, repository)
    (repository / name).unlink()
    for error, read in REFUSALS:
        with pytest.raises(error, match=f"{name} missing"):
            read(repository)
    assert not is_current(REQUEST, repository)


@pytest.mark.parametrize(
    "changes", [{"logit_scale": 100.1}, {"logit_bias": -10.0}, {"precision": "fp16"}, {"probe": {}}, {"new": 1}]
)
def test_a_manifest_that_was_changed_is_refused(changes: dict[str, Any], repository: Path) -> None:
    replace(repository / "manifest.json", edited(repository, **changes))
    for error, read in REFUSALS:
        with pytest.raises(error, match=r"manifest\.json is damaged, or was edited.*publish it again"):
            read(repository)


def test_a_manifest_from_before_seals_is_served(repository: Path) -> None:
    replace(repository / "manifest.json", edited(repository, manifest_sha256="absent"))
    assert deployed.read_deployed(repository) == check_repository(repository)


def edited(repository: Path, **changes: Any) -> bytes:
    manifest = json.loads((repository / "manifest.json").read_text()) | changes
    return json.dumps({key: value for key, value in manifest.items() if value != "absent"}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"manifest"', "not a JSON object"),
        (b'{"variant": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_a_message(data: bytes, words: str, repository: Path) -> None:
    replace(repository / "manifest.json", data)
    for error, read in REFUSALS:
        with pytest.raises(error, match=rf"no readable manifest\.json \({words}.*\): publish it again"):
            read(repository)
    assert not is_current(REQUEST, repository)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "absent"}, "fingerprint is missing"),
        ({"fingerprint": None}, "fingerprint is not a text"),
        ({"variant": ""}, "variant is not a text"),
        ({"random_weights": "no"}, "random_weights is not true or false"),
        ({"embedding_width": 0}, "embedding_width is not a whole number above 0"),
        ({"embedding_width": True}, "embedding_width is not a whole number above 0"),
        ({"image_size": 64.0}, "image_size is not a whole number above 0"),
        ({"logit_scale": float("nan")}, "logit_scale is not a finite number"),
        ({"logit_scale": 10**400}, "logit_scale is not a finite number"),
        ({"logit_bias": "absent"}, "logit_bias is missing"),
        ({"logit_bias": "-10"}, "logit_bias is not a finite number or null"),
        ({"artifacts": "absent"}, "artifacts is missing"),
        ({"artifacts": []}, "artifacts is not an object of paths and digests"),
        ({"artifacts": {"a": 1}}, "artifacts is not an object of paths and digests"),
        ({"artifacts": {"/etc/hostname": "0"}}, "artifacts is not an object of paths and digests"),
        ({"artifacts": {"../served/manifest.json": "0"}}, "artifacts is not an object of paths and digests"),
        ({"artifacts": {}}, "manifest.json has no digest of image_encoder/1/model.pt"),
    ],
)
def test_a_manifest_that_lacks_something_names_it(changes: dict[str, Any], words: str, repository: Path) -> None:
    replace(repository / "manifest.json", edited(repository, **changes))
    for error, read in REFUSALS:
        with pytest.raises(error, match=f"{words}.*publish it again with `tritonclip-server export VARIANT`"):
            read(repository)
