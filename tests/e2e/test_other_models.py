"""Models beside the default family, from export to answers: a ViT, one with a bias and a short context, two of the hub.

Those with a bias judge each text by itself: a sigmoid where the others have a softmax. One of them is served with a
label set and a trained head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import InferenceClient
from selenium import webdriver

from tests import small_tokenizers, text_towers
from tests.clients import TRANSPORTS, connect
from tests.e2e.page import Page
from tests.gateway_server import GatewayProcess
from tests.heads import expected_logits, random_head
from tests.parity.test_tokens import captions, take
from tests.reference import PHOTOS, Features, cosines, image_features, photographs, text_features
from tests.serving import publish, start
from tritonclip import Client
from tritonclip.cli import main as tritonclip
from tritonclip_server.embedded.server import Server
from tritonclip_server.export import heads_cli
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.label_sets import publish_label_set
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.export.variants import Variant
from tritonclip_server.repository.manifest import read_manifest

TEXTS = ["a photo of a cat", "", "many words " * 50]
BIASED = "tiny-vit-bias"
NLLB = "tiny-nllb"
TOKENIZERS = {"tiny-siglip2": "gemma", NLLB: "nllb"}  # those of the hub's kinds
LABELS = ("cat", "a cup of coffee", "rocket", "astronaut")
TEMPLATE = "This is a photo of {}."


@dataclass(frozen=True)
class Served:
    """A running server, the eager open_clip model that it serves, and its folder, where the trained head `birds` is."""

    server: Server
    checkpoint: Checkpoint
    folder: Path

    @property
    def activation(self) -> str:
        return "softmax" if self.checkpoint.logit_bias is None else "sigmoid"

    def logits(self, texts: list[str]) -> Features:
        """open_clip's own [images, texts]: scale · cosine, plus the bias where there is one."""
        images, rows = image_features(self.checkpoint, photographs()), text_features(self.checkpoint, texts)
        found: Features = self.checkpoint.logit_scale * images @ rows.T + (self.checkpoint.logit_bias or 0)
        return found

    def probabilities(self, logits: Features) -> Features:
        given = torch.from_numpy(logits)
        found: Features = (given.softmax(dim=-1) if self.activation == "softmax" else given.sigmoid()).numpy()
        return found


@pytest.fixture(scope="module", params=["ViT-S-32-alt", BIASED, "tiny-siglip2", NLLB])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    architecture, folder = request.param, tmp_path_factory.mktemp("other")
    tokenizer = None
    if kind := TOKENIZERS.get(architecture):
        tokenizer = folder / "tokenizer"
        small_tokenizers.train(kind, take(captions, 300, 3), tokenizer)
    if architecture == NLLB:
        text_towers.write_configuration("small/nllb", folder / "tokenizer")
    repository = publish(architecture, folder / "served", tokenizer=tokenizer)
    if architecture == BIASED:
        publish_label_set(repository, "things", Prompts(LABELS, (TEMPLATE,)), torch.device("cpu"))
        fingerprint = (read_manifest(repository) or {})["fingerprint"]
        head = random_head(folder / "birds", "birds", LABELS, 64, 1, fingerprint=fingerprint)
        assert heads_cli.main([str(head), "--repository", str(repository)]) == 0
    running = start(repository, folder / "log")
    yield Served(running, load_checkpoint(Variant(architecture, "none"), random=True, tokenizer=tokenizer), folder)
    running.stop()


@pytest.fixture(scope="module")
def gateway(served: Served) -> Iterator[str]:
    running = GatewayProcess("--url", served.server.grpc_url)
    yield running.url
    running.stop()


only_biased = pytest.mark.parametrize("served", [BIASED], indirect=True)


def test_its_answers_are_open_clips(served: Served) -> None:
    with Client(served.server.grpc_url) as client:
        served_images, served_texts = client.embed_images(PHOTOS).features, client.embed_texts(TEXTS).features
        scores = client.compare(PHOTOS, TEXTS)
        width = client.manifest().embedding_width
        assert client.manifest().activation == scores.activation == served.activation
    images, texts = image_features(served.checkpoint, photographs()), text_features(served.checkpoint, TEXTS)
    assert served_images.shape == (len(PHOTOS), width)
    assert cosines(served_images, images).min() >= 0.9999
    assert cosines(served_texts, texts).min() >= 0.99999
    logits = served.logits(TEXTS)
    np.testing.assert_allclose(scores.logits, logits, atol=0.2)
    # By ratio: a sigmoid of a random model is near 0 for every text. The exponential of 0.2 is 1.22.
    np.testing.assert_allclose(scores.probabilities, served.probabilities(logits), rtol=0.25)


@pytest.mark.parametrize("served", [NLLB], indirect=True)
def test_a_text_may_say_its_language(served: Served, gateway: str) -> None:
    served.checkpoint.tokenizer.tokenizer.src_lang = "fra_Latn"
    texts = text_features(served.checkpoint, TEXTS)
    served.checkpoint.tokenizer.tokenizer.src_lang = "eng_Latn"
    named = [f"fra_Latn {text}" for text in TEXTS]
    with Client(served.server.grpc_url) as client:
        assert cosines(client.embed_texts(named).features, texts).min() >= 0.99999
        assert cosines(client.embed_texts(TEXTS).features, texts).max() < 0.999
    answer = httpx.post(f"{gateway}/v1/embeddings", json={"input": named}, timeout=60).json()
    found = np.array([item["embedding"] for item in answer["data"]])
    assert cosines(found, texts).min() >= 0.99999


@only_biased
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_labels_have_a_sigmoid_each_and_a_trained_head_has_a_softmax(served: Served, transport: str) -> None:
    client = connect(served.server, transport)
    try:
        scores = client.compare(PHOTOS, TEXTS[0])
        given = client.classify(PHOTOS, LABELS, template=TEMPLATE)
        stored = client.classify(PHOTOS, label_set="things")
        trained = client.classify(PHOTOS, label_set="birds")
        features = client.embed_images(PHOTOS).features
    finally:
        client.close()
    assert scores.activation == "sigmoid"
    np.testing.assert_allclose(scores.probabilities, torch.sigmoid(torch.from_numpy(scores.logits)), rtol=1e-3)
    logits = served.logits([TEMPLATE.replace("{}", label) for label in LABELS])
    for found in (given, stored):
        assert found.activation == "sigmoid"
        np.testing.assert_allclose(by_index(found, "logit"), logits, atol=0.2)
        np.testing.assert_allclose(by_index(found, "probability"), served.probabilities(logits), rtol=0.25)
        expected = torch.sigmoid(torch.tensor(by_index(found, "logit")))
        np.testing.assert_allclose(by_index(found, "probability"), expected, rtol=1e-3)
    assert trained.activation == "softmax"
    likely = torch.from_numpy(expected_logits(served.folder / "birds", features)).softmax(dim=-1)
    np.testing.assert_allclose(by_index(trained, "probability"), likely.numpy(), atol=1e-4)


def by_index(found: Any, attribute: str) -> Any:
    return [[getattr(best, attribute) for best in sorted(row, key=lambda best: best.index)] for row in found]


@only_biased
def test_labels_of_a_model_with_a_bias_are_independent(served: Served) -> None:
    """One alone has the probability that it has among others, and a threshold judges it."""
    with Client(served.server.grpc_url) as client:
        several = client.classify(PHOTOS[:1], LABELS)[0]
        for label in several:
            assert label.probability is not None
            (alone,) = client.classify(PHOTOS[:1], [label.label], threshold=label.probability * 0.99)[0]
            assert alone.probability == pytest.approx(label.probability, rel=1e-3)
            assert client.classify(PHOTOS[:1], [label.label], threshold=label.probability * 1.01)[0] == ()
        assert len(client.classify(PHOTOS[:1], ["cat", "Cat"])[0]) == 2


@only_biased
def test_the_gateway_over_it(served: Served, gateway: str) -> None:
    with Client(served.server.grpc_url) as client:
        scores = client.compare(PHOTOS[:1], TEXTS)
        expected = client.classify(PHOTOS[:1], LABELS, template=TEMPLATE)[0]
    model = httpx.get(f"{gateway}/v1/models", timeout=60).json()["data"][0]
    stated = {name: entry["activation"] for name, entry in model["label_sets"].items()}
    assert (model["activation"], stated) == ("sigmoid", {"things": "sigmoid", "birds": "softmax"})

    def ask(path: str, **fields: Any) -> Any:
        with PHOTOS[0].open("rb") as file:
            return httpx.post(f"{gateway}{path}", files={"image": file}, data=fields, timeout=60).json()

    answer = ask("/v1/similarity", texts=TEXTS)
    assert answer["activation"] == "sigmoid"
    np.testing.assert_allclose(answer["probabilities"], scores.probabilities, rtol=1e-2)
    for fields in ({"labels": LABELS, "template": TEMPLATE}, {"label_set": "things"}):
        answer = ask("/v1/classify", **fields)
        assert answer["activation"] == "sigmoid"
        found = {label["label"]: label["probability"] for label in answer["data"][0]["labels"]}
        assert found == {best.label: pytest.approx(best.probability, rel=1e-2) for best in expected}
    answer = ask("/v1/classify", label_set="birds")
    assert answer["activation"] == "softmax"
    assert sum(label["probability"] for label in answer["data"][0]["labels"]) == pytest.approx(1)
    url = f"{gateway}/v1/models/{model['id']}/zero-shot-image-classification"
    answers = InferenceClient(model=url, token="none").zero_shot_image_classification(PHOTOS[0], [*LABELS])
    found = {each.label: each.score for each in answers}
    assert found == {best.label: pytest.approx(best.probability, rel=1e-2) for best in expected}


@only_biased
def test_the_page_over_it(served: Served, gateway: str, browser: webdriver.Chrome) -> None:
    page = Page(browser, gateway)
    assert "is its own" in page.find(".note:not([hidden])").text
    page.choose(PHOTOS[0])
    page.type("#labels", "a cat")
    page.ask()
    assert page.texts(".ranked .score")[0].endswith(" %")
    assert page.find(".ranked .score").get_attribute("title") == "of this label by itself"
    page.mode("set")
    page.find("#label-set option[value=birds]").click()
    page.ask()
    assert page.find(".ranked .score").get_attribute("title") == "relative to the other labels"
    assert page.texts(".note:not([hidden])") == [""]  # with the cosine that such a set does not have


@only_biased
def test_the_command_line_over_it(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--url", served.server.http_url]
    assert tritonclip(["status", *url]) == 0
    assert "things, 4 labels, sigmoid" in capsys.readouterr().out
    assert tritonclip(["classify", str(PHOTOS[0]), "--labels", "cat", "--threshold", "0", *url]) == 0
    assert "probability (sigmoid)" in capsys.readouterr().out
