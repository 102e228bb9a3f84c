"""Trained heads on the real server: the numbers that were trained, by name, over every transport."""

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
from selenium import webdriver

from tests.clients import TRANSPORTS, connect
from tests.e2e.page import Page
from tests.gateway_server import GatewayProcess
from tests.heads import expected_logits, random_head
from tests.reference import PHOTOS
from tests.serving import start
from tritonclip import Client, ConfigError
from tritonclip.cli import main as tritonclip
from tritonclip_server.embedded.server import Server
from tritonclip_server.export import heads_cli
from tritonclip_server.repository.manifest import read_manifest

LABELS = ("robin", "house: sparrow", "Eisvogel", "crow")


@pytest.fixture(scope="module")
def trained(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fingerprint = (read_manifest(tiny_repository) or {})["fingerprint"]
    folder = tmp_path_factory.mktemp("trained") / "birds"
    return random_head(folder, "birds", LABELS, 64, 1, fingerprint=fingerprint, temperature="1.7", threshold="0.35")


@pytest.fixture(scope="module")
def served(tiny_repository: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = Path(shutil.copytree(tiny_repository, tmp_path_factory.mktemp("trained") / "served"))
    assert heads_cli.main([str(trained), "--repository", str(repository)]) == 0
    running = start(repository, tmp_path_factory.mktemp("logs") / "triton.log")
    yield running
    running.stop()


def by_index(row: Any, attribute: str) -> list[float]:
    return [getattr(prediction, attribute) for prediction in sorted(row, key=lambda prediction: prediction.index)]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_numbers_served_are_those_trained(served: Server, trained: Path, transport: str) -> None:
    client = connect(served, transport)
    try:
        logits = expected_logits(trained, client.embed_images(PHOTOS).features)
        answer = client.classify(PHOTOS, label_set="birds")
        above = client.classify(PHOTOS, label_set="birds", threshold=0.35)
        with pytest.raises(ConfigError, match=r"min_cosine.*birds.*trained.*threshold.*0\.35"):
            client.classify(PHOTOS, label_set="birds", min_cosine=0.2)
    finally:
        client.close()
    probabilities = torch.from_numpy(logits).softmax(dim=-1).numpy()
    for row, image, expected, likely in zip(answer, above, logits, probabilities, strict=True):
        found = np.array(by_index(row, "logit"))
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999999
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(by_index(row, "probability"), likely, atol=1e-4)
        assert [prediction.label for prediction in row] == [LABELS[i] for i in np.argsort(-expected)]
        assert {prediction.cosine for prediction in row} == {None}
        assert [prediction.index for prediction in image] == [i for i in np.argsort(-expected) if likely[i] >= 0.35]


def test_tritons_classification_extension_names_the_labels(served: Server, trained: Path) -> None:
    """By the image, and by features for those who have them."""
    with Client(served.grpc_url) as client:
        features = client.embed_images(PHOTOS[0]).features
    best = LABELS[int(expected_logits(trained, features)[0].argmax())]
    image = PHOTOS[0].read_bytes()
    output = {"name": "probabilities", "parameters": {"classification": 1}}
    inputs = {
        "classify_birds": ("image", "BYTES", [1, 1], struct.pack("<I", len(image)) + image),
        "head_birds": ("image_features", "FP32", [1, 64], features.tobytes()),
    }
    for model, (name, datatype, shape, data) in inputs.items():
        tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        url = f"{served.http_url}/v2/models/{model}/infer"
        response = httpx.post(url, content=head + data, headers=headers, timeout=60)
        (text,) = response.json()["outputs"][0]["data"]
        assert text.split(":", 2)[2] == best


def test_the_command_line_shows_it(served: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = ["--url", served.grpc_url]
    assert tritonclip(["status", *url]) == 0
    assert "birds, 4 labels, trained, softmax, none of these below 0.35" in capsys.readouterr().out
    assert tritonclip(["classify", str(PHOTOS[0]), "--label-set", "birds", "--format", "json", *url]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert [prediction["cosine"] for prediction in entry["predictions"]] == [None] * 4
    assert tritonclip(["classify", str(PHOTOS[0]), "--label-set", "birds", "--min-cosine", "0.2", *url]) != 0
    assert "threshold" in capsys.readouterr().err
    data = tmp_path / "data.csv"
    data.write_text("path,label\n" + "".join(f"{photo.resolve()},crow\n" for photo in PHOTOS))
    report = ["evaluate", "classification", str(data), "--label-set", "birds", "--format", "json", *url]
    assert tritonclip(report) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "trained"
    assert document["scored"] == len(PHOTOS)


@pytest.fixture(scope="module")
def gateway(served: Server) -> Iterator[httpx.Client]:
    process = GatewayProcess("--url", served.grpc_url)
    with httpx.Client(base_url=process.url, timeout=60) as http:
        yield http
    process.stop()


def test_the_gateway_serves_it(served: Server, trained: Path, gateway: httpx.Client) -> None:
    described = gateway.get("/v1/models").json()["data"][0]["label_sets"]["birds"]
    assert described == {
        "labels": 4, "templates": 0, "kind": "trained", "threshold": 0.35, "activation": "softmax"
    }  # fmt: skip
    with PHOTOS[0].open("rb") as file:
        answer = gateway.post("/v1/classify", files={"image": file}, data={"label_set": "birds"}).json()
    labels = answer["data"][0]["labels"]
    with Client(served.grpc_url) as client:
        (logits,) = expected_logits(trained, client.embed_images(PHOTOS[0]).features)
    assert [label["label"] for label in labels] == [LABELS[i] for i in np.argsort(-logits)]
    assert {label["cosine"] for label in labels} == {None}
    with PHOTOS[0].open("rb") as file:
        fields = {"label_set": "birds", "min_cosine": "0.2"}
        refused = gateway.post("/v1/classify", files={"image": file}, data=fields).json()["error"]
    assert refused["param"] == "min_cosine"
    assert "threshold" in refused["message"]


def test_the_page_shows_its_probabilities_alone(gateway: httpx.Client, browser: webdriver.Chrome) -> None:
    page = Page(browser, str(gateway.base_url))
    page.mode("labels")
    assert page.find("#min-cosine").is_displayed()
    page.mode("set")
    assert page.texts("#label-set option") == ["birds (4, trained)"]
    assert not page.find("#min-cosine").is_displayed()
    page.choose(PHOTOS[0])
    page.ask()
    assert sorted(page.texts(".ranked .label")) == sorted(LABELS)
    assert page.texts(".ranked .cosine") == []
    assert all(text.endswith(" %") for text in page.texts(".ranked .score"))
    assert "min_cosine" not in page.find("#curl").text
