"""The gateway as it is started, on a real Triton, reached by the clients that people have."""

import asyncio
import base64
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient

from tests.bad_inputs import BAD_INPUTS, LIMITS, Bad
from tests.gateway_server import ROOT, GatewayProcess
from tests.programs_needed import find_program
from tests.reference import PHOTOS, cosines
from tritonclip import Client
from tritonclip_server.embedded.server import Server
from tritonclip_server.gateway.responses.response_models import EmbeddingsResponse

TEXTS = ["a photo of a cat", "a cup of coffee", "ein Foto 🐈"]
CLOSE = 0.9999  # cosine of the same item in another batch


@pytest.fixture(scope="module")
def gateway(server: Server) -> Iterator[str]:
    running = GatewayProcess("--url", server.grpc_url)
    yield running.url
    running.stop()


@pytest.fixture(scope="module")
def direct(server: Server) -> Iterator[Client]:
    with Client(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def model(gateway: str) -> str:
    return str(httpx.get(f"{gateway}/v1/models", timeout=60).json()["data"][0]["id"])


def data_url(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openai(gateway: str, direct: Client, model: str, encoding: Any) -> None:
    """Its SDK asks for base64 by itself, and decodes it, where no format is named."""
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key="none")
    options = {"encoding_format": encoding} if encoding else {}
    answer = client.embeddings.create(model=model, input=[TEXTS[0], data_url(PHOTOS[0]), TEXTS[2]], **options)
    rows = [entry.embedding for entry in answer.data]
    if encoding == "base64":
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]  # type: ignore[arg-type, misc]
    expected = direct.embed_texts(TEXTS).features[[0, 0, 2]]
    expected[1] = direct.embed_images(PHOTOS[:1]).features[0]
    assert cosines(np.array(rows, np.float32), expected).min() >= CLOSE
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == sum(direct.count_tokens([TEXTS[0], TEXTS[2]]))
    assert client.models.retrieve(model).id == client.models.list().data[0].id == model


def test_openais_errors(gateway: str, model: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=model, input=["a", "b"], dimensions=7)
    assert refused.value.request_id
    assert "dimensions: " in str(refused.value)  # which is all that their users see


def test_usage_counts_open_clips_tokens(gateway: str, reference: Any) -> None:
    """With start and end, as the model reads them; `reference` is the eager model."""
    tokens = reference.tokenizer(TEXTS)
    expected = int((tokens.argmax(dim=1) + 1).sum())
    answer = httpx.post(f"{gateway}/v1/embeddings", json={"input": TEXTS}, timeout=60).json()
    assert answer["usage"] == {"prompt_tokens": expected, "total_tokens": expected, "num_images": 0}


def test_hugging_face(gateway: str, direct: Client, model: str) -> None:
    labels = ["cat", "coffee", "rocket"]
    url = f"{gateway}/v1/models/{model}/zero-shot-image-classification"
    found = InferenceClient(model=url, token="none").zero_shot_image_classification(PHOTOS[2], labels)
    (expected,) = direct.classify([PHOTOS[2]], labels, template="This is a photo of {}.")
    assert [best.label for best in found] == [best.label for best in expected]
    assert [best.score for best in found] == pytest.approx([best.probability for best in expected], abs=1e-3)


@pytest.mark.parametrize("kind", [cohere.Client, cohere.ClientV2])
def test_cohere(gateway: str, direct: Client, model: str, kind: Any) -> None:
    documents = ["a dog", "a photo of a cat", "a rocket"]
    answer = kind(api_key="none", base_url=gateway).rerank(model=model, query=TEXTS[0], documents=documents, top_n=2)
    scores = (direct.embed_texts([TEXTS[0]]).features @ direct.embed_texts(documents).features.T)[0]
    assert [result.index for result in answer.results] == list(np.argsort(-scores)[:2])
    assert [result.relevance_score for result in answer.results] == pytest.approx(np.sort(scores)[:0:-1], abs=1e-4)


def test_similarity_over_httpx_is_the_servers_compare(gateway: str, direct: Client) -> None:
    images = [data_url(path) for path in PHOTOS[:3]]
    answer = httpx.post(f"{gateway}/v1/similarity", json={"images": images, "texts": TEXTS}, timeout=60).json()
    expected = direct.compare(PHOTOS[:3], TEXTS)
    for name, tolerance in (("cosine", 1e-3), ("logits", 0.1), ("probabilities", 0.02)):
        np.testing.assert_allclose(answer[name], getattr(expected, name), atol=tolerance)


@pytest.mark.parametrize(
    "spelling",
    [
        "DATA:image/jpeg;base64,{}",
        "data:;base64,{}",
        "data:application/octet-stream;base64,{}",
        " data:IMAGE/JPEG;BASE64,{}",
        "\ndata: image/jpeg ; base64 , {}",
        "data:image;base64,{}",
        "data%3Aimage%2Fjpeg%3Bbase64%2C{}",
    ],
)
def test_a_data_url_in_any_spelling_is_the_images_vector(gateway: str, direct: Client, spelling: str) -> None:
    image = base64.b64encode(PHOTOS[0].read_bytes()).decode()
    for text in (spelling.format(image), spelling.format(image.rstrip("=").replace("+", "-").replace("/", "_"))):
        answer = httpx.post(f"{gateway}/v1/embeddings", json={"input": text}, timeout=60).json()
        assert answer["usage"]["num_images"] == 1
        row = np.array([answer["data"][0]["embedding"]], np.float32)
        assert cosines(row, direct.embed_images(PHOTOS[:1]).features).min() >= CLOSE


def test_texts_that_are_too_long(gateway: str, direct: Client, model: str) -> None:
    """By the model's own tokens; OpenAI's SDK gives what it does not know as it is."""
    long = "a photo of a cat on a mat, " * 20
    (tokens,) = direct.count_tokens([long])
    limit = direct.manifest().context_length
    assert limit is not None
    assert tokens > limit
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model=model, input=["a cat", long])
    assert answer.truncated == [1]  # type: ignore[attr-defined]
    assert answer.usage.prompt_tokens == direct.count_tokens(["a cat"])[0] + limit
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=model, input=["a cat", long], extra_body={"truncate": "NONE"})
    assert (refused.value.code, refused.value.param) == ("text_too_long", "input[1]")
    assert f"{tokens} tokens, more than the {limit}" in refused.value.message
    found = cohere.ClientV2(api_key="none", base_url=gateway).rerank(
        model=model, query="a cat", documents=[long, "a dog"]
    )
    assert {result.index for result in found.results} == {0, 1}


def test_hugging_faces_older_clients(gateway: str, model: str) -> None:
    """Which sent the labels in one string, and the image under its own name."""
    url = f"{gateway}/v1/models/{model}/zero-shot-image-classification"
    image = base64.b64encode(PHOTOS[2].read_bytes()).decode()
    old = {"image": image, "parameters": {"candidate_labels": "cat, coffee,rocket"}}
    new = InferenceClient(model=url, token="none").zero_shot_image_classification(
        PHOTOS[2], ["cat", "coffee", "rocket"]
    )
    assert [best["label"] for best in httpx.post(url, json=old, timeout=60).json()] == [best.label for best in new]


def test_none_of_these_by_cosine(gateway: str, direct: Client) -> None:
    ask = {"image": data_url(PHOTOS[0]), "labels": ["a cat"]}
    (label,) = httpx.post(f"{gateway}/v1/classify", json=ask, timeout=60).json()["data"][0]["labels"]
    scores = direct.compare(PHOTOS[:1], ["a photo of a a cat"])
    assert label["probability"] is None
    assert label["cosine"] == pytest.approx(float(scores.cosine[0, 0]), abs=1e-3)
    for least, labels in ((label["cosine"] - 0.01, 1), (label["cosine"] + 0.01, 0)):
        answer = httpx.post(f"{gateway}/v1/classify", json=ask | {"min_cosine": least}, timeout=60).json()
        assert len(answer["data"][0]["labels"]) == labels


def test_a_packed_body(gateway: str) -> None:
    body = json.dumps({"input": [TEXTS[0], data_url(PHOTOS[0])]}).encode()
    headers = {"content-type": "application/json"}
    plain = httpx.post(f"{gateway}/v1/embeddings", content=body, headers=headers, timeout=60).json()
    packed = httpx.post(
        f"{gateway}/v1/embeddings",
        content=gzip.compress(body),
        headers=headers | {"content-encoding": "gzip"},
        timeout=60,
    ).json()
    rows = [np.array([entry["embedding"] for entry in answer["data"]], np.float32) for answer in (plain, packed)]
    assert cosines(*rows).min() >= CLOSE
    assert packed["usage"] == plain["usage"]


def curl(*arguments: str) -> Any:
    done = subprocess.run(
        [find_program("curl"), "-s", "-S", *arguments], cwd=ROOT, capture_output=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_curl_uploads(gateway: str) -> None:
    cat = "samples/photos/cat.jpg"
    answer = curl(f"{gateway}/v1/similarity", "-F", f"image=@{cat}", "-F", "text=a cat", "-F", "text=a dog")
    document = {"image": data_url(ROOT / cat), "texts": ["a cat", "a dog"]}
    expected = httpx.post(f"{gateway}/v1/similarity", json=document, timeout=60).json()
    assert answer["logits"][0] == pytest.approx(expected["logits"][0], abs=1e-2)
    EmbeddingsResponse.model_validate(curl(f"{gateway}/v1/embeddings", "-F", f"image=@{cat}", "-F", "text=a cat"))


GUIDE = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
# Those of search want an index: tests/e2e/test_gateway_search.py.
GUIDE_COMMANDS = [line for line in GUIDE.splitlines() if line.startswith("curl ") and "/v1/search" not in line]
GUIDE_CODE = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", GUIDE_COMMANDS)
def test_the_guides_commands(gateway: str, command: str) -> None:
    shell = ["bash", "-c", command.replace("localhost:8080", gateway.removeprefix("http://"))]
    answer = json.loads(subprocess.run(shell, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)
    assert "error" not in answer
    assert answer["model"]


@pytest.mark.parametrize("code", GUIDE_CODE)
def test_the_guides_python(gateway: str, code: str) -> None:
    program = [sys.executable, "-c", code.replace("http://localhost:8080", gateway)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_fingerprint_is_the_servers(gateway: str, direct: Client) -> None:
    headers = httpx.get(f"{gateway}/health/live", timeout=60).headers
    assert headers["x-model-fingerprint"] == direct.manifest().fingerprint


def test_ready_by_the_exporters_probe(gateway: str, direct: Client) -> None:
    """The vectors that eager open_clip gave at export are those that Triton gives now."""
    probe = direct.manifest().raw["probe"]
    features = direct.embed_images([base64.b64decode(probe["image"])]).features
    expected = np.frombuffer(base64.b64decode(probe["image_features"]), "<f2").astype(np.float32)
    assert cosines(features, expected[None])[0] >= 0.999
    assert httpx.get(f"{gateway}/health/ready", timeout=60).json() == {"status": "ready"}


def test_many_callers_at_once_get_their_own_answers(gateway: str, direct: Client) -> None:
    expected = direct.embed_images(PHOTOS).features

    async def main() -> list[Any]:
        async with httpx.AsyncClient(base_url=gateway, timeout=120) as http:
            bodies = [{"input": data_url(PHOTOS[n % len(PHOTOS)])} for n in range(60)]
            return await asyncio.gather(*(http.post("/v1/embeddings", json=body) for body in bodies))

    answers = asyncio.run(main())
    assert {answer.status_code for answer in answers} == {200}
    rows = np.array([answer.json()["data"][0]["embedding"] for answer in answers], np.float32)
    assert cosines(rows, expected[[n % len(PHOTOS) for n in range(60)]]).min() >= CLOSE


@pytest.fixture(scope="module")
def strict(server: Server) -> Iterator[str]:
    """A gateway with the limits of the table of bad requests."""
    options = [f"--max-{name.replace('_', '-')}={getattr(LIMITS, name)}" for name in LIMITS.__dataclass_fields__]
    running = GatewayProcess("--url", server.grpc_url, *options)
    yield running.url
    running.stop()


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_requests_are_refused(strict: str, model: str, bad: Bad) -> None:
    answer = httpx.post(strict + bad.path.format(model=model), timeout=60, **bad.request())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (bad.status, bad.code, bad.param), error


def test_a_body_that_is_too_large_is_refused_by_curl_too(strict: str, tmp_path: Path) -> None:
    """Which may still be sending when the answer comes."""
    large = tmp_path / "large.png"
    large.write_bytes(bytes(30 * LIMITS.body_bytes))
    answer = curl(f"{strict}/v1/similarity", "-F", f"image=@{large}", "-F", "text=a")
    assert answer["error"]["code"] == "body_too_large"
