"""Proxies: never before a loopback address; for other hosts as the environment says, and named where they fail."""

import contextlib
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.unit.client.conftest import Command, Wire
from tests.unit.client.raw_servers import answering, http_answer, raw_server, read_request
from tritonclip import Client, ConfigError, ConnectError, TritonClipError, UnavailableError, _defaults
from tritonclip.protocol.proxies import is_loopback, proxy_of
from tritonclip.testing import features_of

ALL = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
SECRET = "s3cr3t"
HOST = "triton.invalid"  # no resolver knows it, so whoever answers for it is the proxy


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("triton.localhost", True),
        ("127.0.0.1", True),
        ("127.255.1.2", True),
        ("127.1", True),
        ("0x7f000001", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("localhost.example.org", False),
        ("notlocalhost", False),
        ("128.0.0.1", False),
        ("::2", False),
        ("::ffff:128.0.0.1", False),
        ("triton", False),
        ("10.0.0.1", False),
    ],
)
def test_what_is_loopback(host: str, is_local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_loopback(host) is is_local
    for variable in ALL:
        monkeypatch.setenv(variable, "http://proxy:3128")
    for scheme in ("grpc", "grpcs", "http", "https"):
        assert (proxy_of(scheme, host, 1) is None) is is_local


@pytest.mark.parametrize(
    ("environment", "scheme", "name"),
    [
        ({"http_proxy": "http://a:1"}, "http", "http://a:1"),
        ({"http_proxy": "http://a:1"}, "https", None),
        ({"http_proxy": "http://a:1"}, "grpc", "http://a:1"),
        ({"https_proxy": "http://a:1"}, "http", None),
        ({"https_proxy": "http://a:1"}, "https", "http://a:1"),
        ({"https_proxy": "http://a:1"}, "grpc", "http://a:1"),
        ({"https_proxy": "http://a:1", "http_proxy": "http://b:1"}, "grpcs", "http://a:1"),
        ({"grpc_proxy": "http://a:1", "https_proxy": "http://b:1"}, "grpc", "http://a:1"),
        ({"grpc_proxy": "http://a:1"}, "http", None),
        ({"all_proxy": "socks5://a:1"}, "http", "socks5://a:1"),
        ({"all_proxy": "socks5://a:1"}, "grpc", None),
        ({"HTTP_PROXY": "http://a:1"}, "http", "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "http", None),
        ({"HTTP_PROXY": "http://a:1"}, "grpc", None),
        ({"http_proxy": ""}, "http", None),
        ({"http_proxy": "a:1"}, "http", "http://a:1"),
        ({"http_proxy": f"http://user:{SECRET}@a:1"}, "http", "http://a:1"),
        ({"http_proxy": f"http://user:{SECRET}@[::2]:1/"}, "grpc", "http://[::2]:1"),
        ({"http_proxy": "http://a:1", "no_proxy": "other,.example.org"}, "http", None),
        ({"http_proxy": "http://a:1", "no_proxy": "*"}, "http", None),
        ({"http_proxy": "http://a:1", "NO_PROXY": "triton.example.org"}, "http", None),
        ({"http_proxy": "http://a:1", "no_proxy": "example.org:8000"}, "http", None),
        ({"http_proxy": "http://a:1", "no_proxy": "example.org:1"}, "http", "http://a:1"),
        ({"http_proxy": "http://a:1", "no_proxy": "ample.org, x"}, "http", "http://a:1"),
        ({"http_proxy": "http://a:1", "no_grpc_proxy": "example.org"}, "grpc", None),
        ({"http_proxy": "http://a:1", "no_grpc_proxy": "example.org"}, "http", "http://a:1"),
        ({"http_proxy": "http://a:1", "no_grpc_proxy": "x", "no_proxy": "example.org"}, "grpc", "http://a:1"),
    ],
)
def test_which_proxy(
    environment: dict[str, str], scheme: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    proxy = proxy_of(scheme, "triton.example.org", 8000)
    assert (proxy and proxy.name) == name
    assert SECRET not in repr(proxy)


@pytest.mark.parametrize(
    ("exceptions", "host", "excepted"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("1.2.3", "10.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]", "fd00::1", True),
        ("*.example.org", "a.example.org", True),
        ("EXAMPLE.org", "a.example.ORG", True),
        ("", "a", False),
        (",, ,", "a", False),
    ],
)
def test_hosts_without_a_proxy(exceptions: str, host: str, excepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://a:1")
    monkeypatch.setenv("no_proxy", exceptions)
    assert (proxy_of("http", host, 1) is None) is excepted


@pytest.mark.parametrize("value", [f"ftp://u:{SECRET}@a:1", f"http://u:{SECRET}@", f"http://u:{SECRET}@a:x", "http://"])
@pytest.mark.parametrize("url", ["grpc://there:1", "http://there:1"])
def test_a_proxy_that_cannot_be_used(value: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match="http_proxy") as caught:
        Client(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    Client(url.replace("there", "localhost")).close()
    monkeypatch.setenv("http_proxy", "socks5://a:1")  # not over gRPC; over HTTP with a package that is not here
    with pytest.raises(ConfigError, match="socks" if url.startswith("http") else "no_proxy"):
        Client(url)


def test_loopback_is_reached_directly_whatever_the_environment_says(
    wire: Wire, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ALL:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port}")
        monkeypatch.setenv(variable.upper(), f"http://127.0.0.1:{free_port}")
    assert len(wire.run(lambda client: client.embed_texts("a"))) == 1
    wire.url = wire.url.replace("127.0.0.1", "localhost")
    assert len(wire.run(lambda client: client.embed_texts("a"))) == 1


@contextmanager
def proxy_before(port: int) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that takes every host for 127.0.0.1:port, by CONNECT and plainly; yields its URL and the heads it saw."""
    heads: list[bytes] = []

    absolute = f"http://{HOST}:8000".encode()

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data.replace(absolute, b""))
            sink.shutdown(socket.SHUT_WR)

    def handle(near: socket.socket) -> None:
        request = read_request(near)
        heads.append(request.partition(b"\r\n\r\n")[0])
        with socket.create_connection(("127.0.0.1", port)) as far:
            if request.startswith(b"CONNECT "):
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                far.sendall(request.replace(absolute, b""))
            threading.Thread(target=pass_on, args=(far, near), daemon=True).start()
            pass_on(near, far)

    with raw_server(handle) as own:
        yield f"http://user:{SECRET}@127.0.0.1:{own}", heads


def test_another_host_is_reached_by_the_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, _, port = wire.url.rpartition(":")
    with proxy_before(int(port)) as (proxy, heads):
        monkeypatch.setenv("http_proxy", proxy)
        wire.url = f"{scheme.split(':')[0]}://{HOST}:8000"
        features = wire.run(lambda client: client.embed_texts("a")).features
        assert features[0].tolist() == features_of(b"a", 16).tolist()
    assert HOST.encode() in heads[0]
    assert b"authorization: basic" in heads[0].lower()


def test_a_proxy_that_fails_is_named_without_its_password(
    wire: Wire, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.url = f"{wire.url.split(':')[0]}://{HOST}:8000"
    monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{free_port}")
    with pytest.raises(ConnectError, match=f"through the proxy http://127.0.0.1:{free_port}") as caught:
        wire.run(lambda client: client.embed_texts("a"), timeout=5)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert HOST in str(caught.value)


@pytest.mark.parametrize("status", [407, 502, 503, 403])
def test_a_proxy_that_refuses_is_named(wire: Wire, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_defaults, "BACKOFF_FIRST", 1e12)  # no timeout leaves time for another attempt
    wire.url = f"{wire.url.split(':')[0]}://{HOST}:8000"
    with raw_server(answering(http_answer(b"<html>no</html>", status))) as port:
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        with pytest.raises(TritonClipError, match=f"through the proxy http://127.0.0.1:{port}") as caught:
            wire.run(lambda client: client.embed_texts("a"))
    assert str(status) in str(caught.value)
    assert isinstance(caught.value, UnavailableError) == (wire.url.startswith("http") and status in (502, 503))
    assert SECRET not in str(caught.value)


def test_images_that_the_command_fetches(command: Command, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = http_answer(b"a photo of a cat", content_type="image/jpeg")
    with raw_server(answering(image)) as site, proxy_before(site) as (proxy, heads):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port}")
        assert command("embed", f"HTTP://127.0.0.1:{site}/cat.jpg", f"http://localhost:{site}/dog.jpg") == 0
        assert command("embed", f"http://{HOST}:8000/cat.jpg") == 1
        assert f"through the proxy http://127.0.0.1:{free_port}" in command.err
        monkeypatch.setenv("http_proxy", proxy)
        assert command("embed", f"http://{HOST}:8000/cat.jpg") == 0
        assert HOST.encode() in heads[0]
        away = answering(http_answer(b"", 302, Location=f"http://{HOST}:8000/cat.jpg"))
        with raw_server(away) as first:
            assert command("embed", f"http://127.0.0.1:{first}/cat.jpg") == 0  # its redirect goes by the proxy
    assert len(heads) == 2
