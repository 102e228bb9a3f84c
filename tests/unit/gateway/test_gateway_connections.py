"""What a connection may send, hold and wait for before anybody knows who asks; on real sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.gateway_server import listening
from tests.raw_http import GET_LIVE, answer, connect, exchange, post, received, statuses
from tests.waiting import wait_for
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.http.connection import PIPELINED
from tritonclip_server.gateway.http.connection_limits import HEAD_BYTES, HEADERS, ConnectionTimeouts
from tritonclip_server.gateway.settings import Limits, Settings

HASTY = ConnectionTimeouts(head=0.4, unread=1.0, linger=30.0)
LINGERING = ConnectionTimeouts(linger=30.0)  # until all is sent, also by a program that stands still meanwhile


@contextmanager
def gateway(limits: Limits = Limits(), *, timeouts: ConnectionTimeouts | None = None, width: int = 16) -> Iterator[str]:  # noqa: B008
    client = AsyncClient(transport=FakeServer(width=width).async_transport())
    with listening(create_app(client, Settings(limits=limits)), limits, timeouts) as url:
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with gateway(timeouts=LINGERING) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[str]:
    with gateway(timeouts=HASTY) as running:
        yield running


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + (" " if "{" not in name else "")))


HEADS = {
    "one long header": b"X-Long: " + b"a" * HEAD_BYTES + b"\r\n",
    "one that never ends": b"X-Long: " + b"a" * 8 * HEAD_BYTES,
    "many headers": b"a: b\r\n" * HEADERS,
    "long names": b"".join(b"x" * 1000 + b"%d: 1\r\n" % n for n in range(40)),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: localhost\r\n", GET_LIVE + b"GET / HTTP/1.1\r\nHost: a\r\n"]
)
def test_a_head_that_is_too_large(url: str, head: bytes, first: bytes) -> None:
    """Alone on its connection, and after another request on the same one, which is answered."""
    answers = exchange(url, first + head + b"\r\n")
    # The other request may have been answered, and its connection be kept, before enough of this one has come.
    assert statuses(answers) in ([[431]] if first.startswith(b"GET / ") else [[200], [200, 431]])
    if 431 in statuses(answers):
        assert b'"code":"headers_too_large"' in answers
        assert b"x-request-id: req-" in answers
        assert b"connection: close" in answers


def test_a_url_that_is_too_long(url: str) -> None:
    assert statuses(exchange(url, b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) == [431]


def test_trailers_count_as_headers(url: str) -> None:
    chunked = post("/v1/embeddings", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    trailers = b"0\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(2 * HEADERS)) + b"\r\n"
    assert statuses(exchange(url, chunked + trailers)) == [431]


def test_heads_that_people_send_are_not_too_large(url: str) -> None:
    """Cookies of 16 kB, dozens of headers; again and again on one connection."""
    headers = {f"x-{n}": "v" for n in range(80)} | {"cookie": "c" * 16_000}
    with httpx.Client(base_url=url, timeout=30) as client:
        assert {client.get("/health/live", headers=headers).status_code for _ in range(10)} == {200}


def test_an_answer_that_comes_early_is_read_by_who_is_still_sending(url: str) -> None:
    """Even where megabytes are on their way: the connection is not reset before they have been sent."""
    answers = exchange(url, post("/v1/embeddings", bytes(8 * 2**20), announced=2**30))
    assert statuses(answers) == [413]
    assert b"connection: close" in answers


@pytest.mark.parametrize(
    "sent", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET  \r\n"]
)
def test_what_is_no_http(url: str, sent: bytes) -> None:
    answers = exchange(url, sent + b"\r\n\r\n")
    assert statuses(answers) == [400]
    assert b'"code":"invalid_http"' in answers


def test_garbage_after_a_request_does_not_take_its_answer(url: str) -> None:
    assert statuses(exchange(url, GET_LIVE + b"GARBAGE\r\n\r\n")) == [200]


def test_a_body_that_is_no_http(url: str) -> None:
    head = post("/v1/embeddings", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert statuses(exchange(url, head + b"no chunk\r\n")) == [400]


def test_a_few_requests_at_once_are_answered_in_their_order(url: str) -> None:
    with connect(url) as connection:
        for n in range(PIPELINED):
            connection.sendall(GET_LIVE.replace(b"Host", b"X-Request-Id: number-%d\r\nHost" % n))
        connection.sendall(GET_LIVE.replace(b"Host", b"Connection: close\r\nHost"))
        answers = received(connection)
    assert statuses(answers) == [200] * (PIPELINED + 1)
    places = [answers.index(b"number-%d" % n) for n in range(PIPELINED)]
    assert places == sorted(places)


def test_many_requests_at_once_end_the_connection_with_an_answer(url: str) -> None:
    answers = exchange(url, GET_LIVE * 1000)
    assert 1 <= len(statuses(answers)) <= PIPELINED + 1
    assert set(statuses(answers)) == {200}
    assert answers.count(b"connection: close") == 1


@pytest.mark.parametrize("trickle", [0, 0.05])
def test_half_a_head_is_given_up(hasty: str, trickle: float) -> None:
    """However much of it still trickles in."""
    with connect(hasty) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: ")
        begun = time.monotonic()
        connection.settimeout(0.05)
        answers = b""
        while not answers and time.monotonic() - begun < 20:
            if trickle:
                connection.sendall(b"a")
            try:
                answers = connection.recv(65536)
            except TimeoutError:
                continue
    assert statuses(answers) == [408]
    assert b'"code":"request_timeout"' in answers


@pytest.mark.parametrize(
    ("sent", "timeouts"), [(b"", ConnectionTimeouts(silent=0.5)), (b"\r\n", ConnectionTimeouts(head=0.4))]
)
def test_who_says_nothing_is_sent_away_without_an_answer(sent: bytes, timeouts: ConnectionTimeouts) -> None:
    with gateway(timeouts=timeouts) as url:
        assert exchange(url, sent) == b""


def test_a_kept_connection_may_rest_longer_than_a_head_may_take(hasty: str) -> None:
    with connect(hasty) as connection:
        for _ in range(2):
            connection.sendall(GET_LIVE)
            assert statuses(answer(connection)) == [200]
            time.sleep(3 * HASTY.head)
        connection.sendall(GET_LIVE[:20])
        assert statuses(received(connection)) == [408]


def test_the_rest_of_an_answered_request_is_not_waited_for() -> None:
    """The page is open, and nobody reads what is sent to it: not even for as long as more of it comes."""
    with gateway(timeouts=ConnectionTimeouts(linger=1.0)) as url, connect(url) as connection:
        connection.sendall(post("/", b"a" * 1000, announced=10**9).replace(b"POST", b"GET", 1))
        assert statuses(received(connection)) == [200]
        begun = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - begun < 20:
                connection.sendall(b"b")
                time.sleep(0.05)
        assert time.monotonic() - begun < 20


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    with gateway(timeouts=HASTY, width=8192) as url:
        before = metric(url, "tritonclip_gateway_connections")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            body = b'{"input": [' + b",".join(b'"%d"' % n for n in range(64)) + b"]}"  # some 10 MB of answer
            connection.sendall(post("/v1/embeddings", body) * 2)
            asked = 'tritonclip_gateway_requests_total{endpoint="/v1/embeddings"'
            wait_for(lambda: metric(url, asked) > 0 and metric(url, "tritonclip_gateway_connections") <= before)


def test_the_oldest_that_asks_for_nothing_makes_room() -> None:
    with gateway(Limits(connections=3)) as url:
        kept = connect(url)
        kept.sendall(GET_LIVE)
        assert statuses(answer(kept)) == [200]
        halves = [connect(url) for _ in range(10)]
        for half in halves:
            half.sendall(GET_LIVE[:30])
        assert statuses(exchange(url, GET_LIVE.replace(b"Host", b"Connection: close\r\nHost"))) == [200]
        kept.sendall(GET_LIVE)  # those that owed a request went before one that had made none yet
        assert statuses(answer(kept)) == [200]
        for connection in (kept, *halves):
            connection.close()


def test_unfinished_heads_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonclip_server.gateway.http.connection_limits.BUFFERED_BYTES", 3 * HEAD_BYTES)
    with gateway() as url:
        halves = [connect(url) for _ in range(8)]
        for half in halves:
            half.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (HEAD_BYTES - 1000))
            time.sleep(0.05)
        for half in halves[:3]:  # the oldest
            with suppress(ConnectionError):
                assert half.recv(1) == b""
        halves[-1].sendall(b"\r\nConnection: close\r\n\r\n")
        assert statuses(received(halves[-1])) == [200]
        for half in halves:
            half.close()


def half_sent(url: str, body: bytes) -> socket.socket:
    """A connection whose request is under way, and has five bytes of its body."""
    connection = connect(url)
    connection.sendall(post("/v1/embeddings", body[:5], "Expect: 100-continue", announced=len(body)))
    assert statuses(answer(connection)) == [100]  # which is said when the rest is waited for
    return connection


def test_where_all_ask_for_something_the_next_one_is_refused() -> None:
    body = b'{"input": "a red one"}'
    with gateway(Limits(connections=2), timeouts=ConnectionTimeouts(stalled=60.0)) as url:
        busy = [half_sent(url, body) for _ in range(2)]
        answers = exchange(url, GET_LIVE)
        assert statuses(answers) == [429]
        assert b"retry-after: " in answers
        for connection in busy:
            connection.sendall(body[5:])
            assert statuses(answer(connection)) == [200]
            connection.close()


def test_a_body_that_stops_coming_keeps_no_place_from_others() -> None:
    body = b'{"input": "a red one"}'
    with gateway(Limits(connections=2), timeouts=ConnectionTimeouts(stalled=1.0)) as url:
        halves = [half_sent(url, body) for _ in range(2)]
        time.sleep(1.5)
        halves[1].sendall(body[5:10])  # this one goes on, slowly
        assert statuses(exchange(url, GET_LIVE.replace(b"Host", b"Connection: close\r\nHost"))) == [200]
        halves[1].sendall(body[10:])
        assert statuses(answer(halves[1])) == [200]
        with suppress(ConnectionError):
            assert halves[0].recv(1) == b""
        for half in halves:
            half.close()
