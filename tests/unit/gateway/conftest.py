"""A gateway in memory, over a fake server that refuses images as the real preprocessing does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.modules import MODELS, load_module
from tests.samples import sample
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.fetching.url_fetcher import UrlFetcher
from tritonclip_server.gateway.inference.engine import Engine
from tritonclip_server.gateway.search.opening import open_indexes
from tritonclip_server.gateway.settings import Settings

PREPROCESS = load_module(MODELS / "image_preprocess" / "1" / "preprocess.py")
DEFAULTS = Settings()
LABEL_SETS = {"colours": ["red", "green", "blue"]}
# How far the same cosine may be from itself when it is summed in another order, as products of another shape may do:
# 16 rounded terms of features of length 1 (FakeServer's width). Logits are `logit_scale` times as far apart.
CLOSE = 16 * float(np.finfo(np.float32).eps)


def refuse(noun: str, item: bytes) -> str | None:
    """The real preprocessing's reason against an image."""
    if noun == "image":
        try:
            PREPROCESS.Preprocessor(size=(32, 32)).fill(np.empty((3, 32, 32), np.uint8), item)
        except PREPROCESS.InvalidImage as error:
            return str(error)
    return None


@dataclass
class Gateway:
    """A running gateway: `http` reaches it, `fake` is what it asks."""

    http: TestClient
    fake: FakeServer

    def post(self, path: str, **document: Any) -> Any:
        """The answer to a request that must succeed."""
        answer = self.http.post(path, json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, **document: Any) -> dict[str, Any]:
        """The error of a request that must fail."""
        answer = self.http.post(path, json=document)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        return error

    def metric(self, name: str) -> float:
        """A metric as /metrics shows it, by its name with labels."""
        return sample(self.http.get("/metrics").text, name) or 0.0


@contextmanager
def gateway_over(
    fake: FakeServer,
    settings: Settings = DEFAULTS,
    *,
    fetcher: UrlFetcher | None = None,
    engine: Engine | Mapping[str, Engine] | None = None,
    indexes: Mapping[str, Path] | None = None,
) -> Iterator[Gateway]:
    """A gateway in memory, which serves the indexes that lie in these folders."""
    app = create_app(
        engine or AsyncClient(transport=fake.async_transport(), timeout=settings.limits.seconds),
        settings,
        fetcher=fetcher,
        indexes=open_indexes([(name, str(folder)) for name, folder in (indexes or {}).items()]),
    )
    with TestClient(app) as http:
        yield Gateway(http, fake)


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer(label_sets=LABEL_SETS, refuse=refuse)


@pytest.fixture
def gateway(fake: FakeServer) -> Iterator[Gateway]:
    with gateway_over(fake) as running:
        yield running
