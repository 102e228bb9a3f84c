"""A server that carries several models: which one a client means, how that is said, and what a wrong name gets."""

import copy
import pickle
from typing import Any

import pytest

from tests.unit.client.conftest import Wire
from tests.unit.client.wire_servers import serve_grpc
from tritonclip import AsyncClient, Client, ConfigError, NotFoundError
from tritonclip.cli import main
from tritonclip.protocol import (
    InferRequest,
    LoadModelRequest,
    ModelReadyRequest,
    ServerInfoRequest,
    StatisticsRequest,
    addressed,
    parse_url,
    resolve_connection,
)
from tritonclip.protocol.names import own_models, served_names
from tritonclip.testing import FakeServer

PARTS = ("manifest", "embed_image", "embed_text", "compare", "text_tokenize", "similarity")


@pytest.fixture
def fake() -> FakeServer:
    """One that goes by a name, with a label set."""
    return FakeServer(model="vit", label_sets={"pets": ["cat", "dog"]})


class Pair(FakeServer):
    """Two fake servers as one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(model="vit", **options)
        self.other = FakeServer(model="second", manifest={"variant": "another"}, **options)

    def answer(self, call: Any, admin_key: str | None = None) -> Any:
        servers: list[Any] = [super(), self.other]
        if isinstance(call, StatisticsRequest):
            return tuple(entry for server in servers for entry in server.answer(call, admin_key))
        return servers[str(call.model).startswith("second.")].answer(call, admin_key)


def test_argument_then_url_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_connection("grpc://host").url.model is None
    monkeypatch.setenv("TRITONCLIP_MODEL", "environment")
    assert str(resolve_connection("grpc://host").url) == "grpc://host:8001?model=environment"
    assert str(resolve_connection("http://host/path/?model=url").url) == "http://host:80/path?model=url"
    assert resolve_connection("http://host?model=url", model="argument").url.model == "argument"
    monkeypatch.setenv("TRITONCLIP_URL", "grpc://elsewhere?model=of-the-url")
    assert resolve_connection().url.model == "of-the-url"


def test_the_server_itself_is_the_url_without_the_model() -> None:
    url = parse_url("https://host/triton?model=vit-b_32")
    assert (url.server, url.authority) == ("https://host:443/triton", "host:443")


@pytest.mark.parametrize("query", ["models=vit", "model=vit&model=b", "model=vit&x=1", "x", "token=secret"])
def test_nothing_else_may_be_asked_for_by_a_url(query: str) -> None:
    with pytest.raises(ConfigError, match=r"server URL can ask for is \?model=NAME"):
        parse_url(f"grpc://host?{query}")


@pytest.mark.parametrize("name", ["ViT", "a.b", "a/b", "", "-a", "ä", "a" * 65, "a%62 "])
def test_names_that_no_model_can_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is no name that a model is published by: lower-case letters"):
        parse_url(f"grpc://host?model={name}")
    if name:
        with pytest.raises(ConfigError, match="no name"):
            resolve_connection("grpc://host", model=name)
        monkeypatch.setenv("TRITONCLIP_MODEL", name)
        with pytest.raises(ConfigError, match="no name"):
            resolve_connection("grpc://host")


def test_a_call_is_addressed_to_a_models_own_parts() -> None:
    request = InferRequest("embed_text", (), ("text_features",))
    assert addressed(request, None) is request
    assert addressed(request, "vit") == InferRequest("vit.embed_text", (), ("text_features",))
    assert addressed(LoadModelRequest("head_a.12", "{}"), "vit") == LoadModelRequest("vit.head_a.12", "{}")
    assert addressed(ModelReadyRequest("compare"), "vit") == ModelReadyRequest("vit.compare")
    assert addressed(ServerInfoRequest(), "vit") == ServerInfoRequest()


def test_which_models_there_are_and_whose_parts_are_whose() -> None:
    parts = ["manifest", "head_pets", "head_pets.0123", "vit.manifest", "vit.head_pets.0123", "head_pets.manifest"]
    assert served_names(parts) == [None, "head_pets", "vit"]
    assert own_models(parts, None) == {"manifest": "manifest", "head_pets": "head_pets"}
    assert own_models(parts[:-1], None) == {part: part for part in parts[:3]}
    assert own_models(parts, "vit") == {"vit.manifest": "manifest", "vit.head_pets.0123": "head_pets.0123"}


def test_everything_is_asked_of_the_model_that_is_named(wire: Wire) -> None:
    def use(client: Any) -> Any:
        if not wire.is_async:
            client.embed_images([b"a"])
            client.compare([b"a"], ["b", "c"])
            client.classify([b"a"], label_set="pets")
            client.classify([b"a"], ["cat", "dog"])
            return client.status()

        async def steps() -> Any:
            await client.embed_images([b"a"])
            await client.compare([b"a"], ["b", "c"])
            await client.classify([b"a"], label_set="pets")
            await client.classify([b"a"], ["cat", "dog"])
            return await client.status()

        return steps()

    status = wire.run(use, model="vit")
    assert status.url == f"{wire.url}?model=vit"
    assert status.ready
    assert status.models["head_pets"]
    assert {entry.name for entry in status.statistics} >= {*PARTS}
    asked = {call.model for call in wire.fake.calls if call.model is not None}
    assert asked >= {f"vit.{part}" for part in (*PARTS, "classify_pets")}
    assert all(model.startswith("vit.") for model in asked)


def test_the_url_says_it_as_well(wire: Wire) -> None:
    wire.url += "?model=vit"
    assert len(wire.run(lambda client: client.embed_texts("a"))) == 1


@pytest.mark.parametrize("model", [None, "vim"])
def test_whoever_asks_by_another_name_is_told_which_there_are(model: str | None) -> None:
    with Client(transport=Pair().transport(), model=model) as client:
        for ask in (client.manifest, client.status, lambda: client.embed_texts("a"), lambda: client.embed_images(b"a")):
            with pytest.raises(NotFoundError, match="the server carries second, vit; model=NAME asks for one"):
                ask()
    with Client(transport=FakeServer().transport(), model="vit") as client, pytest.raises(NotFoundError) as caught:
        client.manifest()
    assert "carries one model without a name; leave model out" in str(caught.value)


def test_names_are_not_told_where_statistics_are_restricted() -> None:
    with Client(transport=Pair(admin_key="key").transport()) as client:
        with pytest.raises(NotFoundError, match="may carry models by names that it tells its operator alone"):
            client.embed_texts("a")
        assert not client.status().ready
    client = Client(transport=Pair(admin_key="key").transport("key"))
    with pytest.raises(NotFoundError, match="carries second, vit"):
        client.embed_texts("a")


def test_a_part_that_is_missing_is_not_taken_for_another_model(fake: FakeServer) -> None:
    fake.failures.append(NotFoundError("no such part", status_code="NOT_FOUND", model="vit.embed_text"))
    with Client(transport=fake.transport(), model="vit") as client, pytest.raises(NotFoundError) as caught:
        client.embed_texts("a", on_truncation="allow")
    assert caught.value.reason == "no such part"


def test_two_clients_of_one_server_know_nothing_of_each_other() -> None:
    pair = Pair()
    first, second = (Client(transport=pair.transport(), model=name) for name in ("vit", "second"))
    assert (first.manifest().variant, second.manifest().variant) == ("fake", "another")
    statistics = second.status().statistics
    assert statistics is not None
    assert {entry.name for entry in statistics} >= {*PARTS}
    assert len(statistics) == len({entry.name for entry in statistics})


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_copy_asks_for_the_same_model(kind: Any) -> None:
    client = kind("grpc://host", model="vit")
    others = [copy.copy(client), copy.deepcopy(client), pickle.loads(pickle.dumps(client)), client.with_timeout(1.0)]
    assert {repr(other) for other in others} == {f"{kind.__name__}('grpc://host:8001?model=vit')"}
    assert {other._session.model for other in others} == {"vit"}


def test_the_command_takes_it_before_and_after_its_name(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_grpc(fake) as (url, _):
        assert main(["--model", "vit", "status", "--url", url]) == 0
        assert "ready            embed_image" in capsys.readouterr().out
        assert main(["embed", "--text", "a", "--url", url, "--model", "vit"]) == 0
        assert main(["embed", "--text", "a", "--url", f"{url}?model=vit"]) == 0
        assert main(["embed", "--text", "a", "--url", url]) == 1
        assert "the server carries vit" in capsys.readouterr().err
        assert main(["embed", "--text", "a", "--url", url, "--model", "ViT"]) == 2
