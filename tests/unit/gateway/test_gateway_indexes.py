"""Indexes as a gateway opens and asks them: a slow one, one whose store fails, one that is not there."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.indexes import SCENES, make_index
from tritonclip import AsyncClient, Client, ConfigError
from tritonclip.search import IndexInfo, IndexMissingError, SearchResults, StorageError
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.cli import main
from tritonclip_server.gateway.search.opening import named_uri, open_indexes
from tritonclip_server.gateway.settings import Limits, Settings

INFO = IndexInfo(
    "/secret/place", 3, 16, "float32", "fake", "fa4e0000", True, ("id", "uri"), 1, 0, None, 0, 1
)  # fmt: skip
PATIENCE = 30.0  # seconds until a test is given up


class SlowIndex:
    """An index whose searches take until `go`; `begun` is let go of by each."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.error: Exception | None = None

    def info(self) -> IndexInfo:
        return INFO

    def search(self, *, top_k: int, **_: Any) -> SearchResults:
        if top_k == 1:  # as the gateway warms it
            return SearchResults((), True, 3)
        self.begun.release()
        self.go.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return SearchResults((), True, 3)

    def close(self) -> None:
        self.go.set()


@pytest.fixture
def slow() -> SlowIndex:
    return SlowIndex()


@pytest.fixture
def gateway(fake: FakeServer, slow: SlowIndex) -> Iterator[Gateway]:
    """One that searches once at a time."""
    limits = Limits(searches=1, waiting_seconds=0.2)
    app = create_app(
        AsyncClient(transport=fake.async_transport()), Settings(limits=limits), indexes={"slow": slow}  # type: ignore[dict-item]
    )  # fmt: skip
    with TestClient(app) as http:
        yield Gateway(http, fake)


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_search_that_nobody_waits_for_has_its_place_until_it_ends(gateway: Gateway, slow: SlowIndex) -> None:
    seconds = 0.25
    # The time of one that waits for a machine ends before its search has a place.
    while gateway.metric("tritonclip_gateway_searches_in_flight") == 0:
        seconds *= 2
        left = gateway.http.post("/v1/search", json={"text": "x"}, headers={"x-request-timeout": str(seconds)})
        assert left.json()["error"]["code"] == "timeout"
    assert slow.begun.acquire(timeout=PATIENCE)
    assert gateway.metric("tritonclip_gateway_searches_in_flight") == 1
    refused = gateway.http.post("/v1/search", json={"text": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "retry-after" in refused.headers
    assert not slow.begun.acquire(blocking=False)
    assert gateway.http.post("/v1/embeddings", json={"input": "another"}).status_code == 200  # nothing else waits
    slow.go.set()
    until(lambda: gateway.metric("tritonclip_gateway_searches_in_flight") == 0)
    assert gateway.post("/v1/search", text="x")["rows"] == 3


def test_what_the_store_says_stays_in_the_log(
    gateway: Gateway, slow: SlowIndex, caplog: pytest.LogCaptureFixture
) -> None:
    slow.go.set()
    slow.error = StorageError("/secret/place: cannot be read: no permission")
    with caplog.at_level(logging.WARNING):
        answer = gateway.http.post("/v1/search", json={"text": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "index_unavailable")
    assert "secret" not in answer.text
    assert "/secret/place: cannot be read: no permission" in caplog.text
    assert "secret" not in gateway.http.get("/v1/indexes").text


def test_an_index_of_another_model_is_logged_once(
    fake: FakeServer, slow: SlowIndex, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(AsyncClient(transport=fake.async_transport()), Settings(), indexes={"slow": slow})  # type: ignore[dict-item]
    served = app.state.indexes
    with Client(transport=fake.transport()) as client:
        manifest = client.manifest()
    with caplog.at_level(logging.WARNING):
        served.notice([manifest])
        assert not caplog.records
        for _ in range(2):
            served.notice([replace(manifest, fingerprint="0the7")])
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "index slow has vectors of fake (fa4e0000)"
    ]


def test_what_is_no_name_or_no_place_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert named_uri("photos=s3://bucket/a=b") == ("photos", "s3://bucket/a=b")
    for text in ("photos", "photos=", "=place", "a/b=place", "..=place", "ä=place", f"{'x' * 65}=place"):
        with pytest.raises(SystemExit):
            main(["--check", "--index", text])
        assert "is not NAME=URI" in capsys.readouterr().err
    assert main(["--check", "--index", f"photos={tmp_path / 'none'}"]) == 1
    assert f"{tmp_path / 'none'}: there is no index" in capsys.readouterr().err
    with pytest.raises(IndexMissingError):
        open_indexes([("photos", str(tmp_path))])


def test_an_index_is_opened_before_the_gateway_listens(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_index(fake, tmp_path / "scenes", SCENES[:2])
    assert main(["--check", "--index", f"photos={folder}"]) == 0
    assert main(["--check", "--index", f"photos={folder}", "--index", f"photos={folder}"]) == 1
    assert "there are two of this name" in capsys.readouterr().err


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclip.search", None)
    with pytest.raises(ConfigError, match=r'pip install "tritonclip\[search\]"'):
        open_indexes([("photos", "anywhere")])


def test_a_gateway_without_an_index_loads_no_store(fake: FakeServer) -> None:
    program = (
        "import sys; from tritonclip_server.gateway.cli import main; assert main(['--check']) == 0; "
        "print([name for name in ('lancedb', 'pyarrow', 'tritonclip.search') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
