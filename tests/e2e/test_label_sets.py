"""Label sets on the real server: open_clip's zero-shot classifier, by name, over every transport."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from open_clip.zero_shot_classifier import build_zero_shot_classifier

from tests.clients import TRANSPORTS, connect
from tests.reference import PHOTOS, image_features, photographs
from tests.serving import start
from tritonclip_server.embedded.errors import ServeError, ServerDied
from tritonclip_server.embedded.server import Server
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.label_sets import publish_label_set
from tritonclip_server.export.label_sources import Prompts

PROMPTS = Prompts(("cat", "a cup: of coffee", "ein Bär", "rocket", "astronaut"), ("a photo of a {}.", "{}"))


@pytest.fixture(scope="module")
def repository(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(tiny_repository, tmp_path_factory.mktemp("labelled") / "served"))
    publish_label_set(copy, "things", PROMPTS, torch.device("cpu"))
    return copy


@pytest.fixture(scope="module")
def labelled(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(repository, tmp_path_factory.mktemp("logs") / "triton.log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def expected(reference: Checkpoint) -> Any:
    """Probabilities [images, labels] of eager open_clip."""
    classifier = build_zero_shot_classifier(reference.model, reference.tokenizer, PROMPTS.labels, PROMPTS.templates)
    logits = reference.logit_scale * torch.from_numpy(image_features(reference, photographs())) @ classifier
    return logits.softmax(dim=-1).numpy()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_label_set_is_open_clips_classifier(labelled: Server, expected: Any, transport: str) -> None:
    client = connect(labelled, transport)
    try:
        everything = client.classify(PHOTOS, label_set="things")
        best = client.classify(PHOTOS, label_set="things", top_k=2)
    finally:
        client.close()
    for row, probabilities in zip(everything, expected, strict=True):
        order = np.argsort(-probabilities)
        assert [p.label for p in row] == [PROMPTS.labels[i] for i in order]
        # A level of difference in a pixel is allowed (tests/parity); at a logit scale of 100 that can be seen here.
        np.testing.assert_allclose([p.probability for p in row], probabilities[order], atol=5e-3)
        np.testing.assert_allclose([p.logit for p in row], [100 * p.cosine for p in row], atol=1e-3)
    assert [[p.label for p in row[:2]] for row in everything] == [[p.label for p in row] for row in best]


def test_one_bad_image_costs_only_itself(labelled: Server) -> None:
    client = connect(labelled, "grpc-sync")
    with client:
        good = client.classify(PHOTOS[:2], label_set="things", top_k=1)
        result = client.classify([PHOTOS[0], b"no image", PHOTOS[1]], label_set="things", top_k=1, on_error="return")
    assert list(result.errors) == [1]
    for (best,), (alone,) in zip([result[0], result[2]], good, strict=True):
        assert best.label == alone.label
        assert best.logit == pytest.approx(alone.logit, abs=1e-2)


def test_tritons_classification_extension_names_the_labels(labelled: Server, expected: Any) -> None:
    """As any client would ask, without ours: JSON over HTTP with the image as raw bytes."""
    image = PHOTOS[0].read_bytes()
    size = {"binary_data_size": len(image) + 4}
    head = json.dumps(
        {
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": size}],
            "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}],
        }
    ).encode()
    response = httpx.post(
        f"{labelled.http_url}/v2/models/classify_things/infer",
        content=head + struct.pack("<I", len(image)) + image,
        headers={"Inference-Header-Content-Length": str(len(head))},
        timeout=60,
    )
    texts = response.json()["outputs"][0]["data"]
    order = np.argsort(-expected[0])[:2]
    assert [text.split(":", 2)[2] for text in texts] == [PROMPTS.labels[i] for i in order]
    assert [int(text.split(":", 2)[1]) for text in texts] == list(order)


def test_the_manifest_and_status_name_it(labelled: Server) -> None:
    with connect(labelled, "http-sync") as client:
        status = client.status()
        assert status.models["head_things"]
        assert status.models["classify_things"]
        assert client.manifest().label_sets["things"].templates == PROMPTS.templates


@pytest.fixture
def mismatched(repository: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(repository, tmp_path / "mismatched"))
    path = copy / "head_things" / "1" / "label_set.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 16}))
    return copy


def test_a_server_refuses_to_start_with_a_head_of_another_encoder(mismatched: Path, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="another encoder"):
        start(mismatched, tmp_path / "log")


def test_triton_itself_refuses_it_too(mismatched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In production nothing of ours stands before Triton: the manifest model keeps it from starting."""
    monkeypatch.setattr("tritonclip_server.embedded.server.check_repositories", lambda folder: [])
    with pytest.raises(ServerDied, match="head_things was made for another encoder, 0000000000000000"):
        start(mismatched, tmp_path / "log")
