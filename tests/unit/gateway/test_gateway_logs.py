"""The log: a line for each request that ends in an error, nothing that a caller sent, and no way to flood it."""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.images import RED_URL
from tests.unit.gateway.conftest import gateway_over
from tritonclip import AsyncClient, Embeddings, ServerError
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import KeyFile
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.logs import (
    ALL_PER_MINUTE,
    KINDS,
    MOST_CHARACTERS,
    PER_MINUTE,
    LineLimiter,
    LogWriter,
    printable,
    trace,
)
from tritonclip_server.gateway.settings import Limits, Settings

SECRET = "a text that nobody else may read"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.request"]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("tritonclip_server.gateway.logs.CLOSE_SECONDS", 60.0)  # a machine may stand still for two


def test_a_request_that_is_refused_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key, secret = file.create("alice")
    with gateway_over(FakeServer(), Settings(keys=file.path)) as gateway:
        headers = {"authorization": f"Bearer {secret}", "x-request-id": "mine-1"}
        for path, document, status in (
            ("/v1/embeddings", {"input": SECRET}, 200),
            ("/v1/embeddings", {"input": [SECRET, None]}, 400),
            ("/v1/embeddings", {"input": SECRET, "model": SECRET}, 404),
            (f"/v1/{SECRET}", {}, 404),
            (f"/v1/models/{SECRET}/zero-shot-image-classification", {"inputs": SECRET}, 400),
        ):
            assert gateway.http.post(path, json=document, headers=headers).status_code == status
        gateway.http.get("/v1/models", headers={"authorization": f"Bearer {secret}x"})
        gateway.http.request("PURGE", "/")
    shown = [re.sub(r"\d\.\d{3}s", "TIME", line) for line in lines(caplog)]
    own = f"request=mine-1 key={key.id}"
    assert shown[:4] == [
        f"{own} POST /v1/embeddings status=400 code=invalid_value TIME",
        f"{own} POST /v1/embeddings status=404 code=model_not_found TIME",
        f"{own} POST unknown status=404 code=not_found TIME",
        f"{own} POST /v1/models/{{model}}/zero-shot-image-classification status=400 code=missing_field TIME",
    ]
    assert re.fullmatch(r"request=req-\w+ key=- GET /v1/models status=401 code=invalid_api_key TIME", shown[4])
    assert re.fullmatch(r"request=req-\w+ key=- OTHER / status=401 code=invalid_api_key TIME", shown[5])
    assert len(shown) == 6
    assert SECRET not in caplog.text
    assert secret[-20:] not in caplog.text


class Failing(AsyncClient):
    """A client that fails in one way or another."""

    def __init__(self, failure: Callable[[], Exception], seconds: float = 0.0) -> None:
        super().__init__(transport=FakeServer().async_transport())
        self._failure = failure
        self._seconds = seconds

    def with_timeout(self, timeout: float) -> "Failing":
        return self

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        await asyncio.sleep(self._seconds)
        try:
            raise self._failure()
        except ValueError as error:
            raise RuntimeError(f"failed at {texts}") from error


def test_what_nobody_foresaw_has_its_traceback_once_and_no_words(caplog: pytest.LogCaptureFixture) -> None:
    with gateway_over(FakeServer(), engine=Failing(lambda: ValueError(SECRET))) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": SECRET}, headers={"x-request-id": "mine-2"})
    assert answer.status_code == 500
    assert SECRET not in answer.text
    (line,) = lines(caplog)
    assert "request=mine-2" in line
    assert "code=internal_error" in line
    assert SECRET not in caplog.text
    assert caplog.text.count("builtins.RuntimeError\ncaused by:") == 1
    assert caplog.text.count("builtins.ValueError") == 1
    assert "embed_texts" in caplog.text


def test_the_gateways_own_timeouts_are_lines_too(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(limits=Limits(seconds=0.1))
    with gateway_over(FakeServer(), settings, engine=Failing(lambda: ValueError(), seconds=30)) as gateway:
        assert gateway.http.post("/v1/embeddings", json={"input": "a"}).status_code == 504
    assert re.fullmatch(
        r"request=req-\w+ key=- POST /v1/embeddings status=504 code=timeout \d+\.\d+s", lines(caplog)[0]
    )


def test_a_model_servers_words_are_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    failure = ServerError(
        "RuntimeError at 10.0.0.5:8001\nin /srv/models\x1b[2J", status_code="INTERNAL", model="embed_text"
    )
    with gateway_over(FakeServer(), engine=Failing(lambda: failure)) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 502
    assert "10.0.0.5" not in answer.text
    assert "code=engine_failed" in lines(caplog)[0]
    assert "10.0.0.5:8001\\u000ain /srv/models\\u001b[2J" in lines(caplog)[0]
    assert caplog.records[-1].levelno == logging.ERROR


def test_a_line_is_a_line() -> None:
    assert printable("a\nb\r\x1b[2J\x85\u2028\udcff€") == "a\\u000ab\\u000d\\u001b[2J\\u0085\\u2028\\udcff€"
    assert len(printable("a" * 10_000)) == MOST_CHARACTERS + 1


def test_a_trace_ends_where_causes_go_in_circles() -> None:
    first, second = ValueError(SECRET), KeyError(SECRET)
    first.__cause__, second.__cause__ = second, first
    assert trace(first) == "builtins.ValueError\ncaused by:\nbuiltins.KeyError"


def test_a_flood_of_one_kind_leaves_room_for_others() -> None:
    now = 0.0
    limiter = LineLimiter(lambda: now)
    assert sum(limiter.admit("refused") for _ in range(1000)) == PER_MINUTE
    assert limiter.admit("something else")
    assert limiter.left_out() == {"refused": 1000 - PER_MINUTE}
    assert limiter.left_out() == {}
    now = 60.0
    assert sum(limiter.admit("refused") for _ in range(1000)) == PER_MINUTE


def test_a_flood_of_many_kinds_is_bounded_too() -> None:
    limiter = LineLimiter(lambda: 0.0)
    assert sum(limiter.admit(f"kind {number}") for number in range(20 * KINDS)) == ALL_PER_MINUTE
    counts = limiter.left_out()
    assert len(counts) <= KINDS + 1
    assert sum(counts.values()) == 20 * KINDS - ALL_PER_MINUTE
    assert limiter.kinds <= KINDS


@pytest.fixture
def logger() -> logging.Logger:
    return logging.Logger("somebody")  # apart from the tree of loggers


def test_lines_reach_the_descriptor_and_say_how_many_are_missing(logger: logging.Logger, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), LineLimiter(lambda: 0.0))  # in whose minute no more become free
        logger.addHandler(writer)
        for number in range(PER_MINUTE + 7):
            logger.warning("number %d\n%s", number, SECRET)
        logger.error("%d", "no number")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("it failed")
        writer.close()
    written = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT[\d:.]+Z WARNING somebody: number 0\\u000a{SECRET}", written[0])
    assert sum("number" in line for line in written) == PER_MINUTE + 1
    assert written[PER_MINUTE].endswith("ERROR somebody: %d")
    assert written[-2] == "builtins.ValueError"
    assert written[-1].endswith("WARNING gateway.log: 7 more lines left out: somebody: number %d\\u000a%s")


def test_a_log_that_nobody_reads_stops_nobody(logger: logging.Logger) -> None:
    """A full pipe holds its writer up; the lines beyond the queue are lost, and later counted."""
    reading, writing = os.pipe()
    # A second passes between any two lines, so that none is left out.
    writer = LogWriter(writing, LineLimiter(iter(range(10**9)).__next__))
    logger.addHandler(writer)
    begun = time.monotonic()
    for number in range(5000):
        logger.warning("%s", "x" * 400, extra={"kind": str(number % 100)})
    assert time.monotonic() - begun < 30
    assert writer.lost > 1000
    thread = threading.Thread(daemon=True, target=lambda: [None for _ in iter(lambda: os.read(reading, 2**20), b"")])
    thread.start()
    writer.close()
    assert not writer.is_alive
    os.close(writing)
    thread.join(30)
    os.close(reading)


def test_a_disk_that_is_full_costs_lines_alone(logger: logging.Logger) -> None:
    with Path("/dev/full").open("wb") as full:
        writer = LogWriter(full.fileno())
        logger.addHandler(writer)
        for _ in range(10):
            logger.warning("lost")
        until(lambda: writer.lost == 10)
        assert writer.is_alive
        writer.close()


def test_the_watcher_outlives_what_it_did_not_expect(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonclip_server.gateway.inference.served_model.REFRESH_SECONDS", 0.01)

    class Odd(AsyncClient):
        failing = True
        asked = 0

        async def manifest(self, *, refresh: bool = False) -> Any:
            Odd.asked += 1
            if Odd.failing:
                raise KeyError(SECRET)
            return await super().manifest(refresh=refresh)

    fake = FakeServer()
    with gateway_over(fake, engine=Odd(transport=fake.async_transport())) as gateway:
        until(lambda: Odd.asked > 5)
        assert gateway.http.get("/health/live").status_code == 200
        assert "x-model-fingerprint" not in gateway.http.get("/health/live").headers
        Odd.failing = False
        until(lambda: "x-model-fingerprint" in gateway.http.get("/health/live").headers)
    assert caplog.text.count("the model's manifest cannot be read") == 1
    assert SECRET not in caplog.text


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    assert condition()


def test_a_fingerprint_that_is_no_header_is_left_out() -> None:
    for odd in ("a\r\nset-cookie: b", "€", "", "a" * 1000):
        with gateway_over(FakeServer(manifest={"fingerprint": odd})) as gateway:
            gateway.http.post("/v1/embeddings", json={"input": "a"})
            answer: httpx.Response = gateway.http.get("/health/live")  # type: ignore[assignment]
            assert answer.status_code == 200
            assert "x-model-fingerprint" not in answer.headers


def test_an_image_is_not_in_the_log_either(caplog: pytest.LogCaptureFixture) -> None:
    with gateway_over(FakeServer(refuse=lambda noun, item: f"odd {noun}: {item[:8]!r}")) as gateway:
        assert gateway.http.post("/v1/embeddings", json={"input": RED_URL}).status_code == 400
    assert "status=400 code=invalid_image" in lines(caplog)[0]
    assert "PNG" not in caplog.text


def test_create_app_changes_nothing_of_how_the_process_logs() -> None:
    before = list(logging.getLogger().handlers)
    create_app(AsyncClient(transport=FakeServer().async_transport()), Settings())
    assert logging.getLogger().handlers == before
