"""One Triton that carries two models, from export to answers: served, asked, labelled, and behind a gateway."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients import TRANSPORTS, BlockingAsyncClient
from tests.launching import Launcher, shared_memory
from tests.reference import PHOTOS, cosines, image_features, photographs, text_features
from tests.serving import take_as_published
from tritonclip import Client, NotFoundError
from tritonclip_server.embedded.errors import RepositoryProblem
from tritonclip_server.embedded.repository import check_repositories
from tritonclip_server.export import labels_cli
from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import resolve

KEY = "s3cret"
TEXTS = ["a red triangle", "a photo of a cat"]


@dataclass(frozen=True)
class Running:
    """A launcher on a folder of two repositories."""

    launcher: Launcher
    folder: Path
    urls: dict[str, str]

    def connect(self, transport: str, **options: Any) -> Any:
        protocol, mode = transport.split("-")
        make: Any = Client if mode == "sync" else BlockingAsyncClient
        return make(self.urls[protocol], **options)


@pytest.fixture(scope="module")
def running(named_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models") / "pair"
    shutil.copytree(named_repository, folder / "tiny")
    export(Request(resolve("demo"), host="cpu", model="scenes"), folder / "scenes", report=lambda step: None)
    with Launcher(folder, folder.parent, "--admin-key", KEY, "--gateway-port", "0", "--greet") as launcher:
        assert "scenes, tiny" in launcher.read_until("starting Triton")
        grpc, http = launcher.read_until("ready after").split()[-2:]
        gateway = launcher.read_until("gateway ready").split()[-1]
        yield Running(launcher, folder, {"grpc": grpc, "http": http, "gateway": gateway})


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_answers_as_open_clip_does(
    transport: str, running: Running, demo_checkpoint: Checkpoint, reference: Checkpoint
) -> None:
    for model, checkpoint in (("scenes", demo_checkpoint), ("tiny", reference)):
        client = running.connect(transport, model=model)
        images, texts = image_features(checkpoint, photographs()), text_features(checkpoint, TEXTS)
        for _ in range(2):  # the second time from Triton's cache, in which both have the same texts
            assert cosines(client.embed_texts(TEXTS).features, texts).min() >= 0.999
        assert cosines(client.embed_images(PHOTOS).features, images).min() >= 0.999
        logits = checkpoint.logit_scale * images @ texts.T
        np.testing.assert_allclose(client.compare(PHOTOS, TEXTS).logits, logits, atol=0.5)
        status = client.status()
        assert status.ready
        assert status.manifest.raw["model"] == model
        client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_names_none_is_told_which_there_are(transport: str, running: Running) -> None:
    for key, words in ((KEY, "the server carries scenes, tiny"), (None, "names that it tells its operator alone")):
        client = running.connect(transport, admin_key=key)
        with pytest.raises(NotFoundError, match=words):
            client.embed_texts("a cat")
        client.close()


def test_they_share_no_state(running: Running) -> None:
    with Client(running.urls["grpc"], model="tiny") as client:
        client.embed_images(PHOTOS)
    backlogs = {path.name.partition("-backlog")[2] for path in shared_memory(running.launcher.process.pid)} - {""}
    assert backlogs >= {".scenes.image_encoder", ".tiny.image_encoder"}
    assert ".image_encoder" not in backlogs


def test_a_label_set_of_one_is_taken_up_by_it_alone(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, labels = running.urls["grpc"], ["cat", "dog", "cup"]
    (tmp_path / "labels").write_text("\n".join(labels))
    (tmp_path / "templates").write_text("a photo of a {}")
    command = ["pets", "--labels", str(tmp_path / "labels"), "--templates", str(tmp_path / "templates"), "--activate"]
    command += ["--repository", str(running.folder / "tiny"), "--admin-key", KEY]
    assert labels_cli.main([*command, "--url", f"{url}?model=scenes"]) == 1
    assert "is published as tiny, and" in capsys.readouterr().err
    assert labels_cli.main([*command, "--url", url]) == 0
    assert "published tiny.head_pets and tiny.classify_pets" in capsys.readouterr().out
    with Client(url, model="tiny") as client:
        stored = client.classify(PHOTOS[0], label_set="pets")[0]
        by_texts = {each.label: each.cosine for each in client.classify(PHOTOS[0], labels)[0]}
        assert {each.label: pytest.approx(each.cosine, abs=1e-3) for each in stored} == by_texts
    with Client(url, model="scenes") as client:
        assert not client.manifest().label_sets


def test_the_gateway_serves_both(running: Running, demo_checkpoint: Checkpoint, reference: Checkpoint) -> None:
    for model, checkpoint in (("scenes", demo_checkpoint), ("demo", demo_checkpoint), ("tiny", reference)):
        body = {"input": TEXTS, "model": model}
        answer = httpx.post(f"{running.urls['gateway']}/v1/embeddings", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        features = np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)
        assert cosines(features, text_features(checkpoint, TEXTS)).min() >= 0.999


def test_one_that_is_damaged_is_refused_by_name(running: Running, tmp_path: Path) -> None:
    pair = Path(shutil.copytree(running.folder, tmp_path / "pair"))
    artifact = pair / "scenes" / "scenes.similarity" / "1" / "model.pt"
    artifact.write_bytes(artifact.read_bytes()[:-1])
    with pytest.raises(RepositoryProblem, match=rf"{pair}/scenes: scenes\.similarity/1/model\.pt is damaged"):
        check_repositories(pair)
    take_as_published(pair / "scenes")
    assert [deployed.name for deployed in check_repositories(pair)] == ["scenes", "tiny"]
