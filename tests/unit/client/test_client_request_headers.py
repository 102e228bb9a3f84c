"""Headers of one request, by which it is followed: `with_headers`, over every transport."""

import copy
import pickle
from typing import Any

import pytest

from tests.unit.client.conftest import Wire
from tritonclip import Client, ConfigError
from tritonclip.protocol.messages import InferRequest
from tritonclip.testing import FakeServer

TRACE = {"traceparent": "00-" + "1" * 32 + "-" + "a" * 16 + "-01", "tracestate": "vendor=1"}


def seen_of(wire: Wire) -> list[tuple[str, dict[str, str], str]]:
    """The model of each inference, its headers with names in lower case, and its id."""
    seen = wire.server.metadata if wire.url.startswith("grpc") else wire.server.headers_seen
    return [
        (call.model, {name.lower(): value for name, value in headers.items()}, call.id)
        for (_, headers), call in zip(seen, wire.fake.calls, strict=True)
        if isinstance(call, InferRequest)
    ]


def test_a_followed_request_takes_its_headers_and_its_id_along(wire: Wire) -> None:
    def use(client: Any) -> Any:
        followed = client.with_headers(TRACE | {"X-Request-Id": "mine-1", "x-team": "other"})
        return followed.with_timeout(30).count_tokens(["a", "b"])  # which keeps them

    def use_plainly(client: Any) -> Any:
        client.with_headers(TRACE)
        return client.count_tokens(["a"])

    assert wire.run(use, headers={"x-team": "search", "x-zone": "z"}, batch_size=1) == [3, 3]
    followed = seen_of(wire)
    assert len(followed) == 2
    for _, headers, request_id in followed:
        expected = TRACE | {"x-request-id": "mine-1", "x-team": "other", "x-zone": "z"}
        assert {name: headers[name] for name in expected} == expected
        assert request_id == "mine-1"
    wire.run(use_plainly)
    assert [(set(TRACE) & set(headers), request_id) for _, headers, request_id in seen_of(wire)[2:]] == [(set(), "")]


def test_what_one_learns_of_the_server_the_other_knows(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.with_headers(TRACE).embed_texts(["a"])
        client.embed_texts(["a"])
    assert len(fake.requests("manifest")) == 1
    assert [dict(call.headers) for call in fake.requests("embed_text")] == [TRACE, {}]
    assert TRACE["traceparent"] not in repr(fake.calls)  # headers may be secret


@pytest.mark.parametrize(
    "headers",
    [
        {"x-request-id": "a b"},
        {"x-request-id": "a]"},
        {"x-request-id": "a" * 129},
        {"content-length": "3"},
        {"traceparent": "a\n"},
        [("traceparent", "a")],
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(headers: Any, fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client, pytest.raises(ConfigError, match="headers"):
        client.with_headers(headers)
    assert fake.calls == []


def test_copies_keep_them_and_pickles_refuse_them() -> None:
    with Client("grpc://127.0.0.1:9", headers={"x-team": "search"}) as client:
        followed = client.with_headers(TRACE)
        with copy.deepcopy(followed) as other:
            assert dict(other._transport._connection.headers) == {"x-team": "search"} | TRACE  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="headers"):
            pickle.dumps(followed)
