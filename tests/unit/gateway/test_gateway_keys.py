"""Keys: what the file holds, who gets in, how changes take effect, and what a key may ask for."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from tests.images import RED_URL
from tests.unit.gateway.conftest import gateway_over
from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.access.keys import Key, KeyFile, KeyFileError, KeyStore
from tritonclip_server.gateway.access.rate_limit import MANY_BUCKETS, RateLimiter, TokenBucket
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_the_file_opens_nothing(file: KeyFile) -> None:
    key, secret = file.create("alice")
    stored = file.path.read_text()
    assert secret not in stored
    assert secret.split("-", 2)[2] not in stored
    assert file.path.stat().st_mode & 0o077 == 0
    assert KeyStore(file.path).find(f"tclip-{key.id}-{key.digest}") is None


def test_equal_secrets_would_have_different_hashes(file: KeyFile) -> None:
    first, second = file.create("a")[0], file.create("b")[0]
    assert first.salt != second.salt
    assert len(bytes.fromhex(first.salt)) == 16


@pytest.mark.parametrize("presented", ["", "x", "tclip", "tclip--", "tclip-00000000-x", "other-{id}-{secret}", "{id}"])
def test_what_is_no_key_opens_nothing(file: KeyFile, presented: str) -> None:
    key, secret = file.create("alice")
    store = KeyStore(file.path)
    assert store.find(secret) == key
    assert store.find(secret + "x") is None
    assert store.find(presented.format(id=key.id, secret=secret.split("-", 2)[2])) is None


def test_revoked_and_new_keys_take_effect_at_once(file: KeyFile) -> None:
    alice, alices = file.create("alice")
    store = KeyStore(file.path)
    bob, bobs = file.create("bob")
    assert store.find(bobs) == bob
    assert file.revoke(alice.id)
    assert store.find(alices) is None
    assert not file.revoke(alice.id)
    file.path.unlink()
    assert store.find(bobs) is None


def test_a_spoilt_file_changes_nothing_until_it_is_mended(file: KeyFile) -> None:
    alice, secret = file.create("alice")
    store = KeyStore(file.path)
    good = file.path.read_text()
    file.path.write_text("{")
    assert store.find(secret) == alice
    file.path.write_text(good.replace(alice.digest, "0" * 64))
    assert store.find(secret) is None
    file.path.write_text('{"keys": [{"name": "x"}]}')
    with pytest.raises(KeyFileError):
        file.read()


def test_the_api_wants_a_key_and_the_rest_does_not(file: KeyFile) -> None:
    _, secret = file.create("alice")
    with gateway_over(FakeServer(), Settings(keys=file.path)) as gateway:
        for headers in ({}, bearer("wrong"), {"authorization": secret}, {"authorization": f"Basic {secret}"}):
            answer = gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert gateway.http.get("/v1/models", headers={"x-request-timeout": "no number"}).status_code == 401
        for path in ("/v1/models", "/v1/models/fake", "/v1/nothing", "/v2/rerank"):
            assert gateway.http.get(path).status_code == 401
        assert gateway.fake.requests("embed_text") == []
        assert gateway.http.post("/v1/embeddings", json={"input": "a"}, headers=bearer(secret)).status_code == 200
        for path in ("/", "/health/live", "/metrics", "/openapi.json"):
            assert gateway.http.get(path).status_code == 200
        assert gateway.metric('tritonclip_gateway_rejections_total{code="invalid_api_key"}') == 9


def test_without_a_key_the_body_is_not_read(file: KeyFile) -> None:
    """Who has no key may not make the gateway take in megabytes."""
    file.create("alice")
    scope = {
        "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"", "query_string": b"", "headers": [],
    }  # fmt: skip
    sent = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings(keys=file.path))
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_requests_and_images_a_minute(file: KeyFile) -> None:
    _, secret = file.create("alice", requests_per_minute=3, images_per_minute=2)
    with gateway_over(FakeServer(), Settings(keys=file.path)) as gateway:

        def ask(**document: object) -> httpx.Response:
            answer: httpx.Response = gateway.http.post("/v1/embeddings", json=document, headers=bearer(secret))  # type: ignore[assignment]
            return answer

        first = ask(input=[RED_URL, RED_URL])
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-requests"] == "3"
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        assert first.headers["x-ratelimit-limit-images"] == "2"
        assert first.headers["x-ratelimit-remaining-images"] == "0"
        no_images = ask(input=RED_URL)
        assert no_images.status_code == 429
        assert no_images.json()["error"]["type"] == "rate_limit_error"
        assert "images" in no_images.json()["error"]["message"]
        assert 1 <= int(no_images.headers["retry-after"]) <= 60
        assert ask(input="text needs no image").status_code == 200
        no_requests = ask(input="a")
        assert no_requests.status_code == 429
        assert no_requests.json()["error"]["code"] == "rate_limit_exceeded"
        assert no_requests.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_request_that_is_refused_for_too_many_images_says_so(file: KeyFile) -> None:
    _, secret = file.create("alice", images_per_minute=1)
    with gateway_over(FakeServer(), Settings(keys=file.path)) as gateway:
        answer = gateway.http.post("/v1/embeddings", json={"input": [RED_URL] * 2}, headers=bearer(secret))
        assert answer.status_code == 429
        assert "split it" in answer.json()["error"]["message"]


def test_buckets_refill_evenly() -> None:
    now = 0.0
    bucket = TokenBucket(60, lambda: now)
    assert bucket.take(60) == 0
    assert bucket.take(1) == pytest.approx(1)
    now = 0.5
    assert bucket.take(1) == pytest.approx(0.5)
    now = 2.0
    assert bucket.take(2) == 0
    assert bucket.take(1) == pytest.approx(1)
    now = 1000.0
    assert bucket.take(60) == 0  # never more than a minute's worth
    assert bucket.take(1) > 0


def test_each_key_has_its_own_minute_and_a_changed_limit_counts() -> None:
    limiter = RateLimiter(lambda: 0.0)

    def key(name: str, limit: int | None) -> Key:
        return Key(name, name, "", "", "", requests_per_minute=limit)

    limiter.charge(key("a", 1), "requests", 1, {})
    limiter.charge(key("b", 1), "requests", 1, {})
    with pytest.raises(ApiError):
        limiter.charge(key("a", 1), "requests", 1, {})
    limiter.charge(key("a", 2), "requests", 1, {})
    limiter.charge(key("a", None), "requests", 100, {})


def test_the_buckets_of_many_keys_are_not_kept_for_ever() -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now)
    for number in range(3 * MANY_BUCKETS):
        limiter.charge(Key(str(number), "", "", "", "", requests_per_minute=60), "requests", 60, {})
        now += 1.0
        assert limiter.buckets <= MANY_BUCKETS
    last = Key(str(3 * MANY_BUCKETS - 1), "", "", "", "", requests_per_minute=60)
    with pytest.raises(ApiError):  # what is not full again is not forgotten
        limiter.charge(last, "requests", 60, {})
