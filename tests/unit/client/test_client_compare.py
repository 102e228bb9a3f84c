"""Comparisons of every size."""

import asyncio
from typing import Any

import numpy as np
import pytest

from tritonclip import AsyncClient, Client, InputError, ProtocolError, _defaults
from tritonclip.protocol.messages import Call, InferRequest, InferResponse, Tensor
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer, features_of


def cosines(images: list[bytes], texts: list[str]) -> Any:
    left = np.stack([features_of(image, 16) for image in images])
    right = np.stack([features_of(text.encode(), 16) for text in texts])
    return left @ right.T


def models(fake: FakeServer) -> set[str]:
    return {call.model for call in fake.calls if isinstance(call, InferRequest)} - {"manifest"}


@pytest.mark.parametrize(
    ("image_count", "text_count", "used"),
    [
        (1, 1, {"compare"}),
        (4, 4, {"compare"}),
        (5, 1, {"embed_image", "embed_text", "similarity"}),
        (1, 5, {"embed_image", "embed_text", "similarity"}),
        (9, 9, {"embed_image", "embed_text", "similarity"}),
    ],
)
def test_any_numbers_of_both(image_count: int, text_count: int, used: set[str]) -> None:
    fake = FakeServer(max_batch_size=4)
    images = [f"image {number}".encode() for number in range(image_count)]
    texts = [f"text {number}" for number in range(text_count)]
    with Client(transport=fake.transport()) as client:
        result = client.compare(iter(images), iter(texts))
    assert models(fake) == used
    assert len(fake.requests("similarity")) <= 1
    np.testing.assert_allclose(result.cosine, cosines(images, texts), atol=1e-6)
    if text_count > 1:
        np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-5)
    else:
        assert np.isnan(result.probabilities).all()  # a softmax over one text says nothing
    assert result.errors == {}


def test_asynchronous_comparison(fake: FakeServer) -> None:
    async def main() -> Any:
        async with AsyncClient(transport=fake.async_transport()) as client:
            return await client.compare(b"a cat", "a cat")

    assert asyncio.run(main()).cosine == pytest.approx(1)


@pytest.mark.parametrize("count", [3, 100])
def test_a_bad_image_is_named_or_returned(count: int, fake: FakeServer) -> None:
    images = [f"image {number}".encode() for number in range(count)]
    images[2] = b"bad"
    with Client(transport=fake.transport()) as client:
        with pytest.raises(InputError) as caught:
            client.compare(images, ["a", "b"])
        assert (caught.value.index, caught.value.noun) == (2, "image")
        result = client.compare(images, ["a", "b"], on_error="return")
        assert list(result.errors) == [2]
        assert np.isnan(result.probabilities[2]).all()
        good = [number for number in range(count) if number != 2]
        wanted = cosines([images[number] for number in good], ["a", "b"])
        np.testing.assert_allclose(result.cosine[good], wanted, atol=1e-6)
        assert not np.isnan(result.logits[good]).any()


def test_files_are_read_once_though_the_request_is_refused(fake: FakeServer) -> None:
    class File:
        def __init__(self, data: bytes) -> None:
            self.data: list[bytes] = [data]

        def read(self) -> bytes:
            return self.data.pop()

    with Client(transport=fake.transport()) as client:
        result = client.compare([File(b"a cat"), File(b"bad")], ["a cat"], on_error="return")  # type: ignore[list-item]
    assert list(result.errors) == [1]
    assert result.cosine[0, 0] == pytest.approx(1)


def test_an_image_that_cannot_be_read_is_named(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client, pytest.raises(InputError, match="image 1: No such file"):
        client.compare([b"good", "/no/such/file.jpg"], ["a"])


def test_all_images_bad(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.compare([b"bad", b"bad"], ["a", "b", "c"], on_error="return")
    assert result.cosine.shape == (2, 3)
    assert np.isnan(result.cosine).all()
    assert list(result.errors) == [0, 1]


def test_a_refusal_by_compare_alone_still_gets_an_answer(fake: FakeServer) -> None:
    def refuse(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "compare":
            raise status_error("RESOURCE_EXHAUSTED", "too much at once", "compare")

    fake.before = refuse
    with Client(transport=fake.transport()) as client:
        assert client.compare(b"a cat", "a cat").cosine[0, 0] == pytest.approx(1)


def test_much_data_goes_in_several_requests(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_defaults, "MAX_REQUEST_BYTES", 400)
    images = [f"image {number}".encode() for number in range(10)] + [b"bad"]
    with Client(transport=fake.transport()) as client:
        result = client.compare([*images, b"x" * 401], ["a", "b"], on_error="return")
    # 400 bytes hold four rows of 16 values that go and 3 x 2 that come
    assert [request.inputs[0].shape[0] for request in fake.requests("similarity")] == [4, 4, 3]
    assert fake.requests("compare") == []
    np.testing.assert_allclose(result.cosine[:10], cosines(images[:10], ["a", "b"]), atol=1e-6)
    assert np.isnan(result.cosine[10]).all()
    assert not np.isnan(result.cosine[11]).any()


def test_no_images_and_no_texts(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        assert client.compare([], ["a", "b"]).probabilities.shape == (0, 2)
        with pytest.raises(InputError, match="no texts"):
            client.compare(b"image", [])


def test_scores_of_a_wrong_shape_are_refused(fake: FakeServer) -> None:
    answer = fake.answer

    def spoil(call: Call, key: str | None = None) -> Any:
        reply = answer(call, key)
        if isinstance(call, InferRequest) and call.model == "compare":
            assert isinstance(reply, InferResponse)
            return InferResponse(tuple(Tensor(t.name, t.datatype, t.shape[::-1], t.data) for t in reply.outputs))
        return reply

    fake.answer = spoil  # type: ignore[method-assign, assignment]
    with Client(transport=fake.transport()) as client, pytest.raises(ProtocolError, match="cosine of shape"):
        client.compare(b"a", ["b", "c"])


def test_manifest_is_asked_once_and_status_asks_again(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.embed_texts("a")
        client.compare(b"a", "b")
        assert client.manifest().fingerprint == "fa4e0000"
        assert len(fake.requests("manifest")) == 1
        fake.manifest["fingerprint"] = "another"
        assert client.status().manifest is not None
        assert client.manifest().fingerprint == "another"
        assert len(fake.requests("manifest")) == 2


@pytest.mark.parametrize("document", [[], {"max_batch_size": "many"}, {"image_size": "large"}])
def test_a_manifest_that_is_none(document: Any, fake: FakeServer) -> None:
    fake.manifest = document
    with Client(transport=fake.transport()) as client, pytest.raises(ProtocolError, match="manifest"):
        client.manifest()


def test_a_manifest_that_says_little(fake: FakeServer) -> None:
    fake.manifest = {}
    with Client(transport=fake.transport()) as client:
        manifest = client.manifest()
        assert (manifest.variant, manifest.random_weights, manifest.max_batch_size) == (None, False, 64)
