"""The OpenAPI document is whole, its examples work, and whatever it allows is answered without a server error."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from starlette.testclient import TestClient

from tests.unit.gateway.conftest import LABEL_SETS, refuse
from tests.unit.gateway.indexes import SCENES, make_index
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.policy import OPEN_PATHS
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.openapi import REQUESTS
from tritonclip_server.gateway.search.opening import open_indexes
from tritonclip_server.gateway.settings import Settings

ENDPOINTS = {
    "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank", "/v2/rerank", "/v1/models", "/v1/models/{model}",
    "/v1/models/{model}/zero-shot-image-classification", "/health/live", "/health/ready", "/metrics",
    "/v1/embed", "/v2/embed", "/v1/multimodalembeddings", "/v1/score", "/score", "/v1/ranking",
    "/", "/embed", "/info", "/pipeline/feature-extraction/{model}", "/models/{model}/pipeline/feature-extraction",
    "/vectorize", "/meta", "/.well-known/live", "/.well-known/ready",
    "/embeddings", "/rerank", "/models", "/health", "/v1/health", "/v1/health/live", "/v1/health/ready",
    "/v1/search", "/v1/indexes", "/v1/indexes/{name}", "/v1/indexes/{name}/samples",
    "/v1/indexes/{name}/thumbnails/{row}",
}  # fmt: skip


class Unclosed(AsyncClient):
    """A client that outlives its application, which schemathesis starts and ends for every case."""

    async def aclose(self) -> None:
        pass


folder = TemporaryDirectory()
index = make_index(FakeServer(), Path(folder.name) / "scenes", SCENES[:4])


def application() -> FastAPI:
    fake = FakeServer(label_sets=LABEL_SETS, refuse=refuse)
    indexes = open_indexes([("scenes", str(index))])
    app = create_app(Unclosed(transport=fake.async_transport()), Settings(), indexes=indexes)
    app.state.indexes.close = lambda: None  # as it is not closed either
    return app


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    with TestClient(application()) as client:
        yield client


def test_it_has_every_endpoint_with_a_description(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert set(document["paths"]) == ENDPOINTS
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"]
            assert ("security" in operation) is (path == "/" or path not in OPEN_PATHS)
    references = {value for value in _values(document) if isinstance(value, str) and value.startswith("#/")}
    names = {reference.rpartition("/")[2] for reference in references}
    assert names <= set(document["components"]["schemas"])


def test_every_example_is_answered_as_described(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    posts = {path: operations["post"] for path, operations in document["paths"].items() if "post" in operations}
    schemas = document["components"]["schemas"]
    for path, operation in posts.items():
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for reference in schema.get("anyOf", [schema]):
            (example,) = schemas[reference["$ref"].rpartition("/")[2]]["examples"]
            answer = http.post(path.format(model="fake"), json=example)
            assert answer.status_code == 200, answer.text
            described = operation["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema_rs.validate(described | {"components": document["components"]}, answer.json())
    assert {model.__name__ for model in REQUESTS} <= set(schemas)


def _values(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _values(value)
    else:
        yield node


# Not the second names of what is asked by another already.
ALIASES = [
    "/embeddings", "/models", "/score", "/v1/embed", "/v2/rerank", "/embed", "/pipeline/feature-extraction/{model}",
    "/health", "/v1/health", "/v1/health/live", "/v1/health/ready", "/.well-known/live", "/.well-known/ready",
]  # fmt: skip
schema = schemathesis.openapi.from_asgi("/openapi.json", application()).exclude(path=ALIASES)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_whatever_the_document_allows_is_no_server_error(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(checks=[not_a_server_error])
