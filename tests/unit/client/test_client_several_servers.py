"""One client before several servers: which of them a call goes to, and what becomes of those at one that is ill."""

import asyncio
import copy
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.client.wire_servers import serve_grpc, serve_http
from tests.waiting import wait_for
from tritonclip import AsyncClient, Client, ClosedError, ConfigError, ConnectError, DeadlineExceededError, ServerError
from tritonclip.protocol import (
    Call,
    InferRequest,
    Reply,
    ServerInfo,
    ServerInfoRequest,
    Transport,
    each_server,
    open_transport,
    parse_url,
    resolve_connection,
    status_error,
)
from tritonclip.protocol import _balancing as balancing
from tritonclip.protocol._balancing import BalancedTransport
from tritonclip.protocol.grpc_transport import GrpcTransport
from tritonclip.testing import FakeServer

CALL = InferRequest("embed_text", (), ())
SERVES: dict[str, Any] = {"grpc": serve_grpc, "http": serve_http}


class Held(Transport):
    """A server whose calls end when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Future[Reply]] = []
        self.questions: list[Future[Reply]] = []  # whether it is there

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        future: Future[Reply] = Future()
        (self.questions if isinstance(call, ServerInfoRequest) else self.calls).append(future)
        return future

    def close(self) -> None:
        for future in self.calls:
            future.set_exception(ClosedError("closed"))

    def fail(self, error: Exception) -> None:
        """End the newest call."""
        self.calls.pop().set_exception(error)


@pytest.fixture
def held() -> list[Held]:
    return [Held(), Held(), Held()]


def balanced(held: list[Held]) -> BalancedTransport:
    return BalancedTransport({f"grpc://{name}:8001": server for name, server in zip("abc", held, strict=False)})


def shares(held: list[Held]) -> list[int]:
    return [len(server.calls) for server in held]


def test_equal_servers_share_and_a_slow_one_gets_no_more_than_it_can_do(held: list[Held]) -> None:
    transport = balanced(held)
    for _ in range(6):
        transport.start(CALL, 1.0)
    assert shares(held) == [2, 2, 2]
    for _ in range(10):  # the first one answers none
        for server in held[1:]:
            server.calls.pop().set_result(True)
            transport.start(CALL, 1.0)
    assert shares(held) == [2, 2, 2]


def test_one_after_the_other_they_take_turns(held: list[Held]) -> None:
    transport = balanced(held)
    chosen = []
    for _ in range(6):
        transport.start(CALL, 1.0)
        chosen += [place for place, server in enumerate(held) if server.calls]
        held[chosen[-1]].calls.pop().set_result(True)
    assert chosen == [0, 1, 2, 0, 1, 2]


def test_a_call_that_no_server_answers_goes_to_the_next(held: list[Held]) -> None:
    transport = balanced(held)
    future = transport.start(CALL, 60.0)
    for server in held[:2]:
        wait_for(lambda server=server: bool(server.calls), seconds=10)  # type: ignore[misc]
        server.fail(ConnectError("grpc://a:1", "refused"))
    wait_for(lambda: bool(held[2].calls), seconds=10)
    for _ in range(3):
        transport.start(CALL, 60.0)
    assert shares(held) == [0, 0, 4], "those that are away get nothing"
    held[2].calls[0].set_result(True)
    assert future.result(10) is True


def test_of_servers_that_are_all_away_the_last_error_is_the_answer(held: list[Held]) -> None:
    transport = balanced(held)
    for _ in range(2):  # the second time none is passed over
        future = transport.start(CALL, 60.0)
        for _ in held:
            wait_for(lambda: any(shares(held)), seconds=10)
            next(server for server in held if server.calls).fail(ConnectError("grpc://a:1", "refused"))
        with pytest.raises(ConnectError):
            future.result(10)


def test_one_that_was_away_is_asked_before_it_gets_calls(held: list[Held], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "PROBE_SECONDS", 0.0)
    transport = balanced(held[:2])
    transport.start(CALL, 60.0)
    held[0].fail(ConnectError("grpc://a:1", "refused"))
    wait_for(lambda: bool(held[1].calls), seconds=10)
    transport.start(CALL, 60.0)
    assert shares(held[:2]) == [0, 2]
    wait_for(lambda: bool(held[0].questions), seconds=10)
    held[0].questions[0].set_result(ServerInfo("triton", "2"))

    def is_back() -> bool:
        transport.start(CALL, 60.0)
        return bool(held[0].calls)

    wait_for(is_back, seconds=10)


def test_one_that_hangs_gets_no_more_calls_once_a_deadline_has_passed(
    held: list[Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "PROBE_SECONDS", 3600.0)  # it is asked once, however slow this is
    transport = balanced(held[:2])
    hung = transport.start(CALL, 60.0)
    held[0].fail(status_error("DEADLINE_EXCEEDED", "no answer"))
    with pytest.raises(DeadlineExceededError):
        hung.result(0)
    for _ in range(3):
        transport.start(CALL, 60.0)
    assert shares(held[:2]) == [0, 3]
    wait_for(lambda: len(held[0].questions) == 1, seconds=10)


def test_one_that_fails_at_once_does_not_draw_all_calls(held: list[Held], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "REST_SECONDS", 3600.0)  # it still rests, however slow this is
    transport = balanced(held)
    failed = transport.start(CALL, 60.0)
    held[0].fail(status_error("INTERNAL", "no memory"))
    with pytest.raises(ServerError, match="no memory"):
        failed.result(0)
    for _ in range(4):
        transport.start(CALL, 60.0)
    assert shares(held) == [0, 2, 2]


def test_a_call_that_is_given_up_is_given_up_at_the_server(held: list[Held]) -> None:
    transport = balanced(held)
    future = transport.start(CALL, 60.0)
    assert future.cancel()
    assert held[0].calls[0].cancelled()
    for _ in range(3):
        transport.start(CALL, 60.0)
    assert shares(held) == [2, 1, 1]  # what was given up no longer counts


def test_a_child_has_no_call_under_way(held: list[Held]) -> None:
    transport = balanced(held)
    transport.start(CALL, 60.0)
    transport.forget_parent()
    held[0].calls[0].set_result(True)
    for _ in range(3):
        transport.start(CALL, 60.0)
    assert shares(held) == [2, 1, 1]


@pytest.fixture(params=["grpc", "http"])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[FakeServer], list[ExitStack]]]:
    """The URL of two servers, what they are, and how each is stopped."""
    fakes, stacks = [FakeServer(model="vit") for _ in range(2)], [ExitStack(), ExitStack()]
    with stacks[0], stacks[1]:
        urls = [stack.enter_context(SERVES[request.param](fake))[0] for stack, fake in zip(stacks, fakes, strict=True)]
        addresses = ",".join(url.partition("://")[2] for url in urls)
        yield f"{request.param}://{addresses}?model=vit", fakes, stacks


@pytest.mark.parametrize("is_async", [False, True])
def test_real_servers_share_and_one_that_is_stopped_is_not_missed(
    servers: tuple[str, list[FakeServer], list[ExitStack]], is_async: bool
) -> None:
    url, fakes, stacks = servers

    def embedded() -> int:
        texts = [f"text {number}" for number in range(12)]
        if not is_async:
            with Client(url, batch_size=1) as client:
                return len(client.embed_texts(texts).features)

        async def main() -> int:
            async with AsyncClient(url, batch_size=1) as client:
                return len((await client.embed_texts(texts)).features)

        return asyncio.run(main())

    assert embedded() == 12
    assert all(fake.requests("embed_text") for fake in fakes)
    stacks[0].close()
    assert embedded() == 12, "a client that has reached neither yet"


def test_one_that_stops_and_comes_back_while_a_client_is_at_work(free_port: int) -> None:
    fakes, stop = [FakeServer(), FakeServer()], threading.Event()
    with ExitStack() as first, serve_grpc(fakes[1]) as (other, _):
        url, _ = first.enter_context(serve_grpc(fakes[0], free_port))
        with Client(f"{url},{other.partition('//')[2]}") as client:
            done: list[int] = []

            def work() -> None:
                while not stop.is_set():
                    done.append(len(client.embed_texts(["a cat"]).features))

            worker = threading.Thread(target=work)
            worker.start()
            wait_for(lambda: len(fakes[0].requests("embed_text")) > 3, seconds=30)
            first.close()
            count = len(done)
            wait_for(lambda: len(done) > count + 5, seconds=30)
            before = len(fakes[0].requests("embed_text"))
            with serve_grpc(fakes[0], free_port):
                wait_for(lambda: len(fakes[0].requests("embed_text")) > before, seconds=30)
                stop.set()
                worker.join(30)
    assert not worker.is_alive()


def test_copies_and_what_is_shown(servers: tuple[str, list[FakeServer], list[ExitStack]]) -> None:
    url, _, _ = servers
    with Client(url) as client:
        assert repr(client) == f"Client({url!r})"
        for other in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
            assert repr(other) == repr(client)
            assert other.status().ready
            other.close()
        assert client.with_timeout(50.0).status().ready


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_where_none_answers_the_error_names_one(scheme: str) -> None:
    with Client(f"{scheme}://127.0.0.1:1,127.0.0.1:2?model=vit") as client:
        with pytest.raises(ConnectError) as caught:
            client.embed_texts(["a cat"])
        assert caught.value.url == f"{scheme}://127.0.0.1:2?model=vit"


def test_urls_of_several() -> None:
    url = parse_url("https://a,b:1,[::1]:2/triton?model=vit")
    assert str(url) == "https://a:443,b:1,[::1]:2/triton?model=vit"
    assert [str(each) for each in url.each] == [
        "https://a:443/triton?model=vit",
        "https://b:1/triton?model=vit",
        "https://[::1]:2/triton?model=vit",
    ]
    assert parse_url(str(url)) == url


@pytest.mark.parametrize("url", ["grpc://a,", "grpc://,a", "grpc://a,,b", "grpc://a:1,b:x", "grpc://a,a:8001"])
def test_urls_of_several_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="server URL"):
        parse_url(url)


def test_a_password_with_a_comma_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("http://user:sec,ret@host")
    assert "sec" not in str(caught.value)


def test_each_has_a_proxy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    found = each_server(resolve_connection("grpc://localhost,far"))
    assert [each.proxy and each.proxy.name for each in found] == [None, "http://proxy:3128"]


def test_a_transport_of_one_server_refuses_several() -> None:
    connection = resolve_connection("grpc://a,b")
    with pytest.raises(ConfigError, match="several servers"):
        GrpcTransport(connection)
    open_transport(connection).close()
