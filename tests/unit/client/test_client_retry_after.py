"""A server that says when to come back: Retry-After, in both of its forms, over every transport."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.client.raw_servers import answering, http_answer, raw_server
from tests.unit.client.test_client_session import BUSY, World
from tritonclip import Client, UnavailableError
from tritonclip.protocol.messages import InferResponse
from tritonclip.protocol.statuses import parse_retry_after, status_error

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("3", 3.0),
        (" 120 ", 120.0),
        ("9" * 400, 1e12),
        ("Wed, 25 Nov 2026 12:00:07 GMT", 7.0),
        ("Wed, 25 Nov 2026 13:00:07 +0100", 7.0),
        ("Wednesday, 25-Nov-26 12:00:07 GMT", 7.0),
        ("Wed, 25 Nov 2026 11:59:00 GMT", 0.0),
        ("", None),
        ("-3", None),
        ("3.5", None),
        ("soon", None),
        ("Wed, 99 Nov 2026 12:00:07 GMT", None),
        ("٣", None),
    ],
)
def test_both_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == (seconds if seconds is None else pytest.approx(seconds, rel=1e-6))


def busy(seconds: float) -> Any:
    return status_error("UNAVAILABLE", "busy", "manifest", seconds)


def test_the_pause_is_what_the_server_asks_for_and_a_little_more() -> None:
    world = World(busy(7.0), busy(0.0), BUSY, timeout=60.0, random=0.5)
    assert isinstance(world.call(), InferResponse)
    assert world.pauses == pytest.approx([7.05, 0.1, 0.2])


def test_a_wait_beyond_the_deadline_is_the_answer_at_once() -> None:
    world = World(busy(61.0), timeout=60.0)
    with pytest.raises(UnavailableError) as caught:
        world.call()
    assert caught.value.retry_after == 61.0
    assert (world.pauses, len(world.timeouts)) == ([], 1)


@pytest.mark.parametrize(("status", "in_seconds"), [(429, True), (503, False)])
def test_over_http(status: int, in_seconds: bool) -> None:
    def again(seconds: int) -> bytes:
        moment = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return http_answer(b'{"error": "busy"}', status, Retry_After=str(seconds) if in_seconds else moment)

    good = http_answer(b'{"name": "triton", "version": "1"}')
    started = time.time()
    with (
        raw_server(answering(again(1 if in_seconds else 2), good)) as port,
        Client(f"http://127.0.0.1:{port}") as client,
    ):
        with pytest.raises(Exception, match="manifest"):  # what comes after the answer that was waited for
            client.status()
        assert time.time() - started > 0.8  # a date has whole seconds
    with raw_server(answering(again(1000))) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(UnavailableError) as caught:
            client.manifest()
        assert caught.value.retry_after == pytest.approx(1000, abs=100)


def test_other_statuses_do_not_wait() -> None:
    answer = http_answer(b'{"error": "no"}', 400, Retry_After="100")
    with raw_server(answering(answer)) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(Exception, match="no") as caught:
            client.manifest()
        assert caught.value.retry_after is None  # type: ignore[attr-defined]
