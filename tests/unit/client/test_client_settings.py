"""Where the URL and the key come from: argument > environment > default."""

import pytest

from tritonclip import Client, ConfigError
from tritonclip.protocol.connection import parse_url, resolve_admin_key, resolve_url
from tritonclip.testing import FakeServer


def test_precedence_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(resolve_url(None)) == "grpc://localhost:8001"
    monkeypatch.setenv("TRITONCLIP_URL", "http://environment:8000")
    assert str(resolve_url(None)) == "http://environment:8000"
    assert str(resolve_url("https://argument")) == "https://argument:443"
    client = Client(transport=FakeServer().transport())
    assert client.status().url == "http://environment:8000"


def test_precedence_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_admin_key(None) is None
    monkeypatch.setenv("TRITONCLIP_ADMIN_KEY", "from the environment")
    assert resolve_admin_key(None) == "from the environment"
    assert resolve_admin_key("argument") == "argument"


@pytest.mark.parametrize(
    ("url", "text", "authority"),
    [
        ("grpc://host", "grpc://host:8001", "host:8001"),
        ("grpcs://host", "grpcs://host:443", "host:443"),
        ("http://host/", "http://host:80", "host:80"),
        ("https://host/triton/", "https://host:443/triton", "host:443"),
        ("grpc://[::1]:9001", "grpc://[::1]:9001", "[::1]:9001"),
    ],
)
def test_urls(url: str, text: str, authority: str) -> None:
    parsed = parse_url(url)
    assert (str(parsed), parsed.authority) == (text, authority)
    assert parsed.is_grpc == url.startswith("grpc")
    assert parsed.is_secure == url.split(":")[0].endswith("s")


@pytest.mark.parametrize(
    "url",
    ["localhost:8001", "ftp://host", "grpc://", "grpc://host:port", "http://host:99999", "grpc://host/path",
     "http://user:secret@host", "http://host?x=1", "http://host#x", ""],
)  # fmt: skip
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="server URL"):
        parse_url(url)
