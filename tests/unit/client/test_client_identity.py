"""Who asks, and whom is trusted: TLS, client certificates, headers and tokens, over every transport."""

import json
import logging
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.client.authority import Authority, Certificate
from tests.unit.client.conftest import Wire
from tests.unit.client.wire_servers import Tls, serve_grpc, serve_http
from tritonclip import Client, ConfigError, ConnectError
from tritonclip.cli import main
from tritonclip.protocol.connection import resolve_connection
from tritonclip.testing import FakeServer

SECRET = "s3cr3t-value"
TRANSPORTS = ["grpc", "grpc-async", "http", "http-async"]


class Trust:
    """Two authorities, and certificates of all kinds."""

    def __init__(self, folder: Path) -> None:
        authority, other = Authority(folder), Authority(folder, "other")
        self.authority, self.other = authority.certificate, other.certificate
        self.server = authority.issue("server")
        self.expired = authority.issue("expired", days=-1)
        self.elsewhere = authority.issue("elsewhere", hosts="DNS:elsewhere.example")
        self.client = authority.issue("client", hosts="DNS:client")
        self.stranger = other.issue("stranger", hosts="DNS:stranger")
        self.together = folder / "together.pem"
        self.together.write_bytes(self.client.key.read_bytes() + self.client.certificate.read_bytes())


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("certificates"))


@contextmanager
def secure(transport: str, own: Certificate, of_clients: Path | None = None) -> Any:
    fake = FakeServer()
    serve: Any = serve_grpc if transport.startswith("grpc") else serve_http
    with serve(fake, tls=Tls(own, of_clients)) as (url, server):
        yield Wire(url, fake, server, is_async=transport.endswith("async"))


def embed(wire: Wire, **options: Any) -> int:
    return len(wire.run(lambda client: client.embed_texts("a"), timeout=10, **options))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_with_a_certificate_of_an_authority_that_is_trusted(transport: str, trust: Trust) -> None:
    with secure(transport, trust.server) as wire:
        assert embed(wire, ca_file=trust.authority) == 1
        wire.url = wire.url.replace("127.0.0.1", "localhost")
        assert embed(wire, ca_file=str(trust.authority)) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("certificate", "authority", "words"),
    [
        ("server", None, "CERTIFICATE_VERIFY_FAILED"),
        ("server", "other", "CERTIFICATE_VERIFY_FAILED"),
        ("expired", "authority", "certificate has expired"),
        ("elsewhere", "authority", r"(?i)mismatch|hostname verification"),
    ],
)
def test_a_server_that_is_not_to_be_trusted(
    transport: str, certificate: str, authority: str | None, words: str, trust: Trust
) -> None:
    options = {} if authority is None else {"ca_file": getattr(trust, authority)}
    with secure(transport, getattr(trust, certificate)) as wire, pytest.raises(ConnectError, match=words):
        embed(wire, **options)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_wants_a_certificate(transport: str, trust: Trust) -> None:
    with secure(transport, trust.server, trust.authority) as wire:
        own = {"ca_file": trust.authority, "client_certificate": trust.client.certificate}
        assert embed(wire, **own, client_key=trust.client.key) == 1
        assert embed(wire, ca_file=trust.authority, client_certificate=trust.together) == 1
        with pytest.raises(ConnectError, match="without a client certificate"):
            embed(wire, ca_file=trust.authority)
        with pytest.raises(ConnectError, match="with a client certificate"):
            embed(
                wire,
                ca_file=trust.authority,
                client_certificate=trust.stranger.certificate,
                client_key=trust.stranger.key,
            )


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_encrypted_and_not_do_not_meet(scheme: str, trust: Trust) -> None:
    with secure(scheme, trust.server) as wire:
        wire.url = wire.url.replace(f"{scheme}s", scheme)
        with pytest.raises(ConnectError):
            embed(wire)
    serve: Any = serve_grpc if scheme == "grpc" else serve_http
    with serve(FakeServer()) as (url, server):
        wire = Wire(url.replace(scheme, f"{scheme}s"), FakeServer(), server, is_async=False)
        with pytest.raises(ConnectError, match="over TLS"):
            embed(wire, ca_file=trust.authority)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_files_by_the_environment(transport: str, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONCLIP_CA_FILE", str(trust.authority))
    monkeypatch.setenv("TRITONCLIP_CLIENT_CERTIFICATE", str(trust.client.certificate))
    monkeypatch.setenv("TRITONCLIP_CLIENT_KEY", str(trust.client.key))
    with secure(transport, trust.server, trust.authority) as wire:
        assert embed(wire) == 1
        with pytest.raises(ConnectError):
            embed(wire, ca_file=trust.other)  # the argument counts
    monkeypatch.delenv("TRITONCLIP_CA_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.authority))  # as everywhere
    with secure(transport, trust.server) as wire:
        assert embed(wire) == 1


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_files_that_cannot_be_used_are_named_at_once(scheme: str, trust: Trust, tmp_path: Path) -> None:
    url = f"{scheme}://there:1"
    none, rubbish, locked = tmp_path / "none.pem", tmp_path / "rubbish.pem", tmp_path / "locked.key"
    rubbish.write_text("no certificate")
    key = ["openssl", "pkey", "-in", str(trust.client.key), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    Authority._openssl(*key[1:])
    cases: list[tuple[dict[str, Any], object]] = [
        ({"ca_file": none}, none),
        ({"ca_file": tmp_path}, tmp_path),
        ({"ca_file": rubbish}, rubbish),
        ({"client_certificate": rubbish}, rubbish),
        ({"client_certificate": trust.client.certificate}, trust.client.certificate),  # it has no key in it
        ({"client_certificate": trust.client.certificate, "client_key": trust.stranger.key}, trust.stranger.key),
        ({"client_certificate": trust.client.certificate, "client_key": locked}, locked),
        ({"client_key": trust.client.key}, "client_certificate"),
    ]
    for arguments, named in cases:
        with pytest.raises(ConfigError) as caught:
            Client(url, **arguments)
        assert str(named) in str(caught.value)
    for plain in ("grpc://there:1", "http://there:1"):
        with pytest.raises(ConfigError, match="ca_file is for grpcs:// and https://"):
            Client(plain, ca_file=trust.authority)


def headers_of(wire: Wire) -> list[dict[str, str]]:
    seen = wire.server.metadata if wire.url.startswith("grpc") else wire.server.headers_seen
    return [{name.lower(): value for name, value in headers.items()} for _, headers in seen]


def test_a_token_and_headers_go_with_every_request(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(client: Any) -> Any:
        return client.status()

    wire.run(use, token=SECRET, headers={"X-Team": "search, images", "x-api-KEY": "k"})
    for headers in headers_of(wire):
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert (headers["x-team"], headers["x-api-key"]) == ("search, images", "k")
    seen = len(headers_of(wire))
    monkeypatch.setenv("TRITONCLIP_TOKEN", "from-the-environment")
    wire.run(use)
    wire.run(use, token="argument")
    of_token = [headers["authorization"] for headers in headers_of(wire)[seen:]]
    assert set(of_token[: len(of_token) // 2]) == {"Bearer from-the-environment"}
    assert set(of_token[len(of_token) // 2 :]) == {"Bearer argument"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"token": f"{SECRET}\n"},
        {"token": f"{SECRET}\r\nX-Other: 1"},
        {"token": f" {SECRET}"},
        {"token": f"{SECRET}é"},
        {"token": f"{SECRET}\x00"},
        {"token": 3},
        {"admin_key": f"{SECRET}\n"},
        {"headers": {"X-A": f"{SECRET}\n"}},
        {"headers": {"X-A": f"{SECRET}猫"}},
        {"headers": {"X-A": b"bytes"}},
        {"headers": {"X-A": ""}},
        {"headers": {"X A": "a"}},
        {"headers": {"X-A\n": "a"}},
        {"headers": {"X:A": "a"}},
        {"headers": {"": "a"}},
        {"headers": {"é": "a"}},
        {"headers": {3: "a"}},
        {"headers": {"X-A": "a", "x-a": "b"}},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"Host": "elsewhere"}},
        {"headers": {"grpc-timeout": "1S"}},
        {"headers": {"X-Bytes-bin": "a"}},
        {"headers": [("X-A", "a")]},
        {"headers": {"Authorization": "Basic x"}, "token": "t"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("url", ["grpc://there:1", "http://there:1"])
def test_what_cannot_be_sent_is_refused_and_not_shown(url: str, arguments: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Client(url, **arguments)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_secrets_do_not_show(wire: Wire, free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: Any = {"token": SECRET, "admin_key": f"{SECRET}-admin", "headers": {"X-Key": f"{SECRET}-key"}}
    wire.run(lambda client: client.status(), **secrets)
    nobody = Wire(wire.url.rpartition(":")[0] + f":{free_port}", wire.fake, None, is_async=wire.is_async)
    with pytest.raises(ConnectError) as caught:
        nobody.run(lambda client: client.status(), **secrets)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text
    assert SECRET not in repr(resolve_connection("http://there:1", **secrets))


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_command(
    transport: str, trust: Trust, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with secure(transport, trust.server, trust.authority) as wire:
        own = ["--ca-file", trust.authority, "--client-certificate", trust.client.certificate]
        own += ["--client-key", trust.client.key, "--header", "X-Team: search", "--header", "X-B:1"]
        arguments = ["status", "--url", wire.url, "--format", "json", *map(str, own)]
        assert main([*arguments, "--token", "from-an-option"]) == 0
        assert json.loads(capsys.readouterr().out)["url"] == wire.url
        monkeypatch.setenv("TRITONCLIP_TOKEN", SECRET)
        seen = len(headers_of(wire))
        assert main(arguments) == 0
        for headers in headers_of(wire):
            assert (headers["x-team"], headers["x-b"]) == ("search", "1")
        assert headers_of(wire)[0]["authorization"] == "Bearer from-an-option"
        assert headers_of(wire)[seen]["authorization"] == f"Bearer {SECRET}"
        assert main(["status", "--url", wire.url]) == 3
        assert main(["status", "--url", wire.url, "--ca-file", "no.pem"]) == 2
        assert main(["status", "--header", "no colon"]) == 2
        assert main(["status", "--header", "A: 1", "--header", "A: 2"]) == 2
        err = capsys.readouterr().err
    for words in ("over TLS without a client certificate", "no.pem", "NAME: VALUE", "twice"):
        assert words in err
    assert SECRET not in err


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    for url in (f"http://user:{SECRET}@there", f"grpc://:{SECRET}@there:1", f"http://{SECRET}@there:port"):
        with pytest.raises(ConfigError) as caught:
            Client(url)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
