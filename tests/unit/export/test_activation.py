"""What servers are told of a label set and in which order, where some of them refuse, on servers in memory."""

import argparse
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tritonclip import ConnectError
from tritonclip.protocol import Call, Connection, LoadModelRequest, UnloadModelRequest, resolve_connection, status_error
from tritonclip.testing import FakeServer
from tritonclip_server.export import activation, classifier_options
from tritonclip_server.export.activation import Activation, every_address
from tritonclip_server.export.errors import ActivationFailed, ActivationRefused
from tritonclip_server.export.exit_codes import exit_code_of
from tritonclip_server.repository.label_sets import LabelSet

KEY = "s3cret"
BIRDS = LabelSet("birds", "fa4e0000", ("crow", "wren"), (), "", kind="trained", edition="new")


class Servers:
    """Two servers of one name, `a` and `b`, that serve an earlier edition, and the repository of both."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.fakes = {name: FakeServer(admin_key=KEY) for name in "ab"}
        published = {key: value for key, value in self.fakes["a"].manifest.items() if key != "label_sets"}
        (folder / "manifest.json").write_text(json.dumps(published))
        (folder / "embed_image").mkdir()
        (folder / "embed_image" / "config.pbtxt").write_text('name: "embed_image" platform: "ensemble"')
        for fake in self.fakes.values():
            fake.store_label_set("birds", ["crow"], trained=True)
            fake.manifest["label_sets"]["birds"]["edition"] = "old"
            fake.manifest["revision"] = "1"
        self.stored = [BIRDS]
        monkeypatch.setattr(activation, "stored_label_sets", lambda folder: self.stored)
        monkeypatch.setattr(activation, "label_set_names", lambda folder: [each.name for each in self.stored])
        monkeypatch.setattr(activation, "every_address", self._addresses)
        monkeypatch.setattr(activation, "open_transport", lambda at: self.fakes[at.url.host].transport(at.admin_key))

    def _addresses(self, connection: Connection) -> list[Connection]:
        return [resolve_connection(f"grpc://{name}", admin_key=connection.admin_key) for name in self.fakes]

    def open(self, key: str | None = KEY) -> Activation:
        return Activation("grpc://triton", key, self.folder)

    def told(self, name: str) -> list[str]:
        """What a server was told to load and to unload, after a proof of the key; other models' names in brackets."""
        said = []
        for call in self.fakes[name].calls:
            if isinstance(call, LoadModelRequest):
                said.append(f"+{call.model}" if call.config is None else f"+({json.loads(call.config)['name']})")
            elif isinstance(call, UnloadModelRequest):
                said.append(f"-{call.model}")
        assert said[:1] in ([], ["+similarity"])
        return said[1:]

    def refuse(self, name: str, model: str) -> None:
        self.fakes[name].before = refusal_of(model)


def refusal_of(model: str) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        if call == LoadModelRequest(model):
            raise status_error("INVALID_ARGUMENT", f"load failed for model '{model}'", model)

    return refuse


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(tmp_path, monkeypatch)


def test_all_have_the_weights_before_any_answers_by_them(servers: Servers) -> None:
    with servers.open() as opened:
        opened.prepare()
        assert servers.told("a") == servers.told("b") == ["+head_birds.new"]
        assert opened.switch() == ["grpc://a:8001", "grpc://b:8001"]
    rest = ["+classify_birds", "+head_birds", "+manifest", "-head_birds.old"]
    assert servers.told("a") == servers.told("b") == ["+head_birds.new", *rest]


def test_one_that_cannot_load_the_weights_leaves_all_as_they_were(servers: Servers) -> None:
    servers.refuse("b", "head_birds.new")
    with servers.open() as opened, pytest.raises(ActivationRefused, match=r"grpc://b:8001 does not .* load failed"):
        opened.prepare()
    undone = ["+head_birds.new", "+(head_birds.new)", "-head_birds.new"]
    assert servers.told("b") == servers.told("a") == undone


def test_one_that_fails_afterwards_is_named_and_the_others_go_on(servers: Servers) -> None:
    servers.refuse("a", "manifest")
    with servers.open() as opened:
        opened.prepare()
        with pytest.raises(ActivationFailed, match="not taken up by grpc://a:8001"):
            opened.switch()
    assert "-head_birds.old" not in servers.told("a")
    assert servers.told("b")[-1] == "-head_birds.old"


def test_what_was_published_before_without_them_is_taken_up_too(servers: Servers) -> None:
    """The manifest, loaded again, tells of all that the repository has."""
    servers.stored = [BIRDS, replace(BIRDS, name="fish")]
    with servers.open() as opened:
        opened.prepare()
        opened.switch()
    ensembles = ["+classify_birds", "+head_birds", "+classify_fish", "+head_fish"]
    assert servers.told("a") == [
        "+head_birds.new", "+head_fish.new", *ensembles, "+manifest", "-head_birds.old",
    ]  # fmt: skip


@pytest.mark.parametrize("edition", ["old", ""])
def test_what_was_removed_is_let_go_of_once_the_manifest_tells_of_it_no_more(servers: Servers, edition: str) -> None:
    servers.stored = []
    for fake in servers.fakes.values():
        fake.manifest["label_sets"]["birds"]["edition"] = edition
    with servers.open() as opened:
        opened.prepare()
        assert servers.told("a") == []
        assert opened.switch() == ["grpc://a:8001", "grpc://b:8001"]
    weights = ["-head_birds.old"] if edition else []
    assert servers.told("a") == servers.told("b") == ["+manifest", "-classify_birds", "-head_birds", *weights]


def test_one_that_serves_it_already_is_told_nothing(servers: Servers) -> None:
    servers.fakes["a"].manifest["label_sets"]["birds"]["edition"] = "new"
    with servers.open() as opened:
        opened.prepare()
        opened.switch()
    assert servers.told("a") == []
    assert len(servers.told("b")) == 5


def test_the_weights_of_a_label_set_without_an_edition_are_replaced_with_its_head(servers: Servers) -> None:
    """As versions before editions have published it."""
    for fake in servers.fakes.values():
        fake.manifest["label_sets"]["birds"]["edition"] = ""
    with servers.open() as opened:
        opened.prepare()
        opened.switch()
    assert servers.told("a") == ["+head_birds.new", "+classify_birds", "+head_birds", "+manifest"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "0123"}, "serves another encoder, 0123"),
        ({"artifacts": {"image_encoder/1/model.pt": "0123"}}, "published again since grpc://b:8001 was started"),
        ({"revision": None}, "an older version"),
    ],
)
def test_one_that_serves_something_else_is_refused_before_anything(
    servers: Servers, changes: dict[str, Any], words: str
) -> None:
    manifest = servers.fakes["b"].manifest
    manifest |= changes
    if manifest["revision"] is None:
        del manifest["revision"]
    with pytest.raises(ActivationRefused, match=words):
        servers.open()
    assert servers.told("a") == []


def test_without_a_key_or_with_a_wrong_one_or_without_a_server(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITONCLIP_ADMIN_KEY", raising=False)
    with pytest.raises(ActivationRefused, match="--admin-key, or TRITONCLIP_ADMIN_KEY"):
        servers.open(None)
    with pytest.raises(ActivationRefused, match="is that its admin key"):
        servers.open("guessed")
    assert servers.told("a") == servers.told("b") == []
    servers.fakes["b"].failures.append(ConnectError("grpc://b:8001", "refused"))
    with pytest.raises(ActivationRefused, match="grpc://b:8001 does not say what it serves"):
        servers.open()


def test_every_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: object, **__: object) -> list[Any]:
        return [(0, 0, 0, "", (address, 8001)) for address in ("10.0.0.2", "10.0.0.3", "10.0.0.2", "fd00::2")]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    urls = [str(each.url) for each in every_address(resolve_connection("grpc://triton", admin_key=KEY))]
    assert urls == ["grpc://10.0.0.2:8001", "grpc://10.0.0.3:8001", "grpc://[fd00::2]:8001"]
    assert len(every_address(resolve_connection("grpc://triton,other"))) == 6, "those of each server"
    secure = resolve_connection("grpcs://triton", admin_key=KEY)
    assert every_address(secure) == [secure], "a certificate is for the name"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_one_server_by_any_address(host: str) -> None:
    connection = resolve_connection(f"http://{host}:8000")
    assert every_address(connection) == [connection]


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ActivationRefused, match=r"nowhere\.invalid"):
        every_address(resolve_connection("grpc://nowhere.invalid"))


@pytest.mark.parametrize("moment", ["prepare", "switch"])
def test_whoever_interrupts_it_is_told_what_was_done(
    moment: str, servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_activation: Activation) -> None:
        raise KeyboardInterrupt

    def publish(accept: Callable[[], None] | None) -> LabelSet:
        assert accept is not None
        accept()
        return BIRDS

    monkeypatch.setattr(Activation, moment, interrupt)
    options = argparse.Namespace(
        repository=servers.folder, activate=True, url="grpc://triton", admin_key=KEY, if_changed=False
    )
    assert exit_code_of(lambda: classifier_options.run(options, "birds", lambda: False, publish)) == 130
    said = "nothing was published" if moment == "prepare" else "the repository was changed, and running servers may"
    assert capsys.readouterr().err.startswith(f"interrupted; {said}")
