"""One client in several event loops and threads; copies of it, and what a pickle holds."""

import asyncio
import copy
import pickle
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Wire
from tests.unit.client.raw_servers import http_answer, raw_server, read_request
from tritonclip import AsyncClient, Client, ClosedError, ConfigError, InvalidArgumentError
from tritonclip.testing import FakeServer, features_of

SECRET = "s3cr3t-value"


def token_sent(make: Callable[[str], Client]) -> str:
    """The token that a client sends, once it is made with a server's URL."""
    heads: list[str] = []

    def handle(connection: socket.socket) -> None:
        heads.append(read_request(connection).decode())
        connection.sendall(http_answer(b'{"error": "enough"}', 400))

    with raw_server(handle) as port, make(f"http://127.0.0.1:{port}") as client, pytest.raises(InvalidArgumentError):
        client.manifest()
    found = re.search(r"(?im)^authorization: Bearer (.+)$", heads[0])
    assert found is not None
    return found[1].strip()


def is_right(embeddings: Any, text: str) -> bool:
    return np.array_equal(embeddings.features[0], features_of(text.encode(), 16))


@pytest.mark.parametrize("wire", ["grpc-async", "http-async"], indirect=True)
def test_an_asynchronous_client_outlives_its_event_loop(wire: Wire) -> None:
    client = AsyncClient(wire.url)
    for turn in range(3):
        assert is_right(asyncio.run(client.embed_texts(f"loop {turn}")), f"loop {turn}")
    asyncio.run(client.aclose())
    with pytest.raises(ClosedError):
        asyncio.run(client.embed_texts("late"))
    assert len({peer for peer, _ in wire.server.peers}) == 1  # one connection, whatever loops come and go


@pytest.mark.parametrize("wire", ["grpc-async", "http-async"], indirect=True)
def test_an_asynchronous_client_in_several_loops_at_once(wire: Wire) -> None:
    client = AsyncClient(wire.url)
    wrong: list[str] = []

    async def talk(name: str) -> None:
        for turn in range(5):
            found = await asyncio.gather(*(client.embed_texts(f"{name} {turn} {n}") for n in range(4)))
            wrong.extend(name for n, rows in enumerate(found) if not is_right(rows, f"{name} {turn} {n}"))

    threads = [threading.Thread(target=lambda name=name: asyncio.run(talk(name))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(client.aclose())
    assert not wrong
    assert len(wire.fake.requests("manifest")) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_pickle_makes_a_client_with_the_same_settings(kind: Any, wire: Wire) -> None:
    client = kind(wire.url, timeout=70, concurrency=3, batch_size=2)
    for other in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
        assert type(other) is kind
        assert repr(other) == repr(client) == f"{kind.__name__}('{wire.url}')"
        settings = other.__reduce__()[1][1]
        assert (settings["timeout"], settings["concurrency"], settings["batch_size"]) == (70, 3, 2)
        found = other.embed_texts("again")
        assert is_right(found if kind is Client else asyncio.run(found), "again")
        other.close() if kind is Client else asyncio.run(other.aclose())
    client.close() if kind is Client else asyncio.run(client.aclose())


def test_a_pickle_names_files_and_reads_the_environment_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = tmp_path / "ca.pem"
    monkeypatch.setenv("TRITONCLIP_TOKEN", SECRET)
    certificates.write_text("")
    arguments: Any = {"url": "https://there:1", "ca_file": certificates}
    with pytest.raises(ConfigError, match=r"ca\.pem"):  # it is no certificate: read here, and where it is unpickled
        Client(**arguments)
    client = Client("http://there:1")
    assert SECRET.encode() not in pickle.dumps(client)
    assert token_sent(lambda url: Client(url)) == SECRET
    monkeypatch.setenv("TRITONCLIP_TOKEN", "another")
    assert token_sent(lambda url: pickle.loads(pickle.dumps(Client(url)))) == "another"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"token": SECRET}, "TRITONCLIP_TOKEN"),
        ({"admin_key": SECRET}, "TRITONCLIP_ADMIN_KEY"),
        ({"headers": {"X-Api-Key": SECRET}}, "headers"),
        ({"transport": FakeServer().transport()}, "transport"),
    ],
)
def test_a_secret_is_never_pickled(arguments: Any, remedy: str) -> None:
    client = Client("grpc://there:1", **arguments)
    with pytest.raises(ConfigError, match=remedy) as caught:
        pickle.dumps(client)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(client)


def test_a_secret_may_be_copied_in_memory() -> None:
    assert token_sent(lambda url: copy.deepcopy(Client(url, token=SECRET))) == SECRET


def test_a_shallow_copy_shares_everything(wire: Wire) -> None:
    if wire.is_async:
        return
    client = Client(wire.url)
    other = copy.copy(client)
    client.embed_texts("a")
    assert is_right(other.embed_texts("b"), "b")
    assert len(wire.fake.requests("manifest")) == 1
    client.close()
    with pytest.raises(ClosedError):
        other.embed_texts("c")
