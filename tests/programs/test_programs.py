"""Other people's clients with their default options: only their base URL and key are ours.

Each must get what `tritonclip` gets from the same server (which tests/e2e holds against open_clip), in the order in
which it asked. What a case must give is the first word of its name.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.programs.conftest import HERE, PROGRAMS
from tritonclip import Client
from tritonclip_server.embedded.server import Server

Array = NDArray[np.floating[Any]]
INPUTS: dict[str, Any] = json.loads((HERE / "inputs.json").read_text(encoding="utf-8"))
MANY = [INPUTS["many"]["template"].format(number) for number in range(INPUTS["many"]["count"])]
SCORE = 1e-5  # the largest difference of two cosines, or of two probabilities, that came over different APIs
COSINE = 0.9999  # the smallest cosine of two vectors of one item in different batches, in bf16


@pytest.fixture(scope="session")
def ours(demo_server: Server) -> Iterator[Client]:
    """Our own client, straight at Triton."""
    with Client(demo_server.grpc_url) as client:
        yield client


@pytest.fixture(scope="session")
def vectors(ours: Client) -> Mapping[str, Array]:
    """What each kind of vectors must be."""
    texts, many = ours.embed_texts(INPUTS["texts"]).features, ours.embed_texts(MANY).features
    images = ours.embed_images(INPUTS["images"]).features
    return {"texts": texts, "query": texts[:1], "many": many, "some": many[: INPUTS["many"]["some"]], "images": images}


@pytest.fixture(scope="session")
def cosines(ours: Client) -> Array:
    """The cosine of each document with the query."""
    given = ours.embed_texts([INPUTS["query"], *INPUTS["documents"]]).features
    scores: Array = given[1:] @ given[0]
    return scores


@pytest.fixture(scope="session")
def scale(ours: Client) -> float:
    """Logit ÷ cosine, of this model."""
    compared = ours.compare(INPUTS["images"], INPUTS["labels"])
    return float((compared.logits / compared.cosine).mean())


def check_vectors(result: Any, expected: Array) -> None:
    given = np.asarray(result, dtype=np.float64)
    assert given.shape == expected.shape
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((given * expected).sum(axis=1) / lengths).min() > COSINE


def check_ranking(result: Any, expected: Array, difference: float) -> None:
    """Check that the best come first, each with its score; a client may leave out the last of them."""
    indexes, scores = zip(*result, strict=True)
    assert list(indexes) == np.argsort(-expected).tolist()[: len(indexes)]
    assert len(indexes) >= 3
    np.testing.assert_allclose(scores, expected[list(indexes)], atol=difference)


def check_labels(result: Mapping[str, float], ours: Client) -> None:
    """Check the probabilities of labels under one of the templates that the doors put them in."""
    assert sorted(result) == sorted(INPUTS["labels"])
    for template in ("a photo of a {}", "This is a photo of {}.", "{}"):
        texts = [template.format(label) for label in INPUTS["labels"]]
        probabilities = ours.compare(INPUTS["images"][:1], texts).probabilities
        assert probabilities is not None
        if np.allclose([result[label] for label in INPUTS["labels"]], probabilities[0], atol=SCORE):
            return
    pytest.fail(f"no template gives {result}")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_client_gets_what_ours_gets(
    program: Path,
    answer: Callable[[Path], dict[str, dict[str, Any]]],
    vectors: Mapping[str, Array],
    cosines: Array,
    scale: float,
    ours: Client,
) -> None:
    if program.suffix == ".mjs" and shutil.which("node") is None:
        pytest.skip("there is no node: test_node_is_there fails")
    said = answer(program)
    assert said
    errors = {case: outcome["error"] for case, outcome in said.items() if "error" in outcome}
    assert not errors, json.dumps(errors, indent=2)
    for case, outcome in said.items():
        kind, result = case.split("_")[0], outcome["result"]
        match kind:
            case "rerank":
                check_ranking(result, cosines, SCORE)
            case "logits":
                check_ranking(result, scale * cosines, scale * SCORE)
            case "scores":
                np.testing.assert_allclose([score for _, score in sorted(result)], cosines, atol=SCORE)
            case "labels":
                check_labels(result, ours)
            case "status":
                assert result in (200, 204)
            case _:
                check_vectors(result, vectors[kind])


def test_node_is_there() -> None:
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    assert not missing, (
        "the clients for JavaScript need node 20 or later and npm: install them (Debian: nodejs npm), then "
        "scripts/setup-clients"
    )
