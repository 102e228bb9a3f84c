"""What a server answers is not believed: vectors, scores and classes that cannot be true reach nobody."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Embed
from tritonclip import Client, ConfigError, InputError, ProtocolError
from tritonclip.protocol.messages import Call, FloatArray, InferRequest, InferResponse, Tensor
from tritonclip.testing import FakeServer, features_of

BAD = 3  # the position of the item at fault, of five


def spoil(fake: FakeServer, model: str, output: str, change: Callable[[FloatArray], FloatArray]) -> None:
    """Have a model answer with something else in place of one output."""
    answer = fake.answer

    def spoiled(call: Call, key: str | None = None) -> Any:
        reply = answer(call, key)
        if not (isinstance(reply, InferResponse) and isinstance(call, InferRequest) and call.model == model):
            return reply
        return InferResponse(
            tuple(Tensor.from_array(t.name, change(t.array())) if t.name == output else t for t in reply.outputs)
        )

    fake.answer = spoiled  # type: ignore[method-assign, assignment]


def row(value: float) -> Callable[[FloatArray], FloatArray]:
    def change(array: FloatArray) -> FloatArray:
        array[BAD] = value
        return array

    return change


def cell(value: float) -> Callable[[FloatArray], FloatArray]:
    def change(array: FloatArray) -> FloatArray:
        array[BAD, 1] = value
        return array

    return change


def scaled(factor: float) -> Callable[[FloatArray], FloatArray]:
    def change(array: FloatArray) -> FloatArray:
        array[BAD] *= np.float32(factor)
        return array

    return change


BAD_ROWS = [
    pytest.param(row(np.nan), "not finite", id="NaN"),
    pytest.param(cell(np.nan), "not finite", id="one NaN"),
    pytest.param(cell(np.inf), "not finite", id="infinite"),
    pytest.param(row(0.0), "length 0 ", id="zero"),
    pytest.param(row(3e38), "length", id="huge"),
    pytest.param(scaled(1.01), "length 1.01", id="long"),
    pytest.param(scaled(0.99), "length 0.99", id="short"),
]
ITEMS = [f"item {n}".encode() for n in range(5)]
GOOD = [n for n in range(5) if n != BAD]


@pytest.mark.parametrize(("change", "words"), BAD_ROWS)
def test_a_vector_that_is_none_fails_its_item_alone(change: Any, words: str, embed: Embed, fake: FakeServer) -> None:
    spoil(fake, "embed_image", "image_features", change)
    result = embed(fake, ITEMS, "return")
    assert list(result.errors) == [BAD]
    assert isinstance(result.errors[BAD], ProtocolError)
    assert f"embed_image: image {BAD}: the vector has" in str(result.errors[BAD])
    assert words in str(result.errors[BAD])
    assert np.isnan(result.features[BAD]).all()
    np.testing.assert_array_equal(result.features[GOOD], [features_of(ITEMS[n], 16) for n in GOOD])
    with pytest.raises(ProtocolError, match=f"image {BAD}"):
        embed(fake, ITEMS)


@pytest.mark.parametrize(("change", "words"), BAD_ROWS)
def test_texts_and_labels_as_well(change: Any, words: str, fake: FakeServer) -> None:
    spoil(fake, "embed_text", "text_features", change)
    texts = [item.decode() for item in ITEMS]
    with Client(transport=fake.transport()) as client:
        assert list(client.embed_texts(texts, on_error="return").errors) == [BAD]
        with pytest.raises(ProtocolError, match=f"text {BAD}"):
            client.classify(b"image", texts)
        with pytest.raises(ProtocolError):  # nor were those features kept
            client.classify(b"image", texts)


def test_a_length_within_rounding_is_right(embed: Embed, fake: FakeServer) -> None:
    spoil(fake, "embed_image", "image_features", lambda array: array * np.float32(1.0004))
    assert embed(fake, ITEMS).errors == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: array[:-1], "for 5 items"),
        (lambda array: np.concatenate([array, array[:1]]), "for 5 items"),
        (lambda array: array.ravel(), "for 5 items"),
        (lambda array: array[:, :0], "for 5 items"),
        (lambda array: array[:, :8] / np.linalg.norm(array[:, :8], axis=1, keepdims=True), "rows of 8 values, and 16"),
    ],
    ids=["too few", "too many", "one axis", "no width", "another width"],
)
def test_an_answer_of_a_wrong_shape_is_none(change: Any, words: str, embed: Embed, fake: FakeServer) -> None:
    spoil(fake, "embed_image", "image_features", change)
    with pytest.raises(ProtocolError, match=words):
        embed(fake, ITEMS)
    result = embed(fake, ITEMS, "return")
    assert list(result.errors) == list(range(5))
    assert np.isnan(result.features).all()


def test_a_replaced_model_of_another_width_is_noticed_and_then_known(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.embed_texts("a")
        fake.width = 24
        fake.manifest["embedding_width"] = 24
        with pytest.raises(ProtocolError, match="did the server's model change"):
            client.embed_texts("a")
        assert client.embed_texts("a").features.shape == (1, 24)


@pytest.mark.parametrize("output", ["cosine", "logits", "probabilities"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", ["compare", "similarity"])
def test_scores_that_are_not_finite(output: str, value: float, model: str) -> None:
    check_scores(model, output, value, "is not finite")


@pytest.mark.parametrize(
    ("output", "value"), [("cosine", 1.01), ("cosine", -1.01), ("probabilities", -0.01), ("probabilities", 1.01)]
)
@pytest.mark.parametrize("model", ["compare", "similarity"])
def test_scores_out_of_bounds(output: str, value: float, model: str) -> None:
    check_scores(model, output, value, "is outside")


def check_scores(model: str, output: str, value: float, words: str) -> None:
    fake = FakeServer(max_batch_size=64 if model == "compare" else 4)  # five images are then too many at once
    spoil(fake, model, output, cell(value))
    with Client(transport=fake.transport()) as client:
        with pytest.raises(ProtocolError, match=f"{model}: image {BAD}: a value of {output} {words}"):
            client.compare(ITEMS, ["a", "b", "c"])
        result = client.compare(ITEMS, ["a", "b", "c"], on_error="return")
    assert fake.requests(model)
    assert list(result.errors) == [BAD]
    for scores in (result.cosine, result.logits, result.probabilities):
        assert np.isnan(scores[BAD]).all()
        assert np.isfinite(scores[GOOD]).all()


@pytest.mark.parametrize("value", [np.nan, 1.01, -0.01, np.inf])
def test_probabilities_of_a_label_set(value: float) -> None:
    fake = FakeServer(label_sets={"animals": ["cat", "dog", "cow"]})
    spoil(fake, "classify_animals", "probabilities", row(value))
    with Client(transport=fake.transport()) as client:
        with pytest.raises(ProtocolError, match=f"classify_animals: image {BAD}: logit"):
            client.classify(ITEMS, label_set="animals")
        result = client.classify(ITEMS, label_set="animals", on_error="return")
    assert list(result.errors) == [BAD]
    assert [len(predictions) for predictions in result] == [3, 3, 3, 0, 3]


@pytest.mark.parametrize(
    "text", [b"nan:0:cat", b"inf:0:cat", b"101.0:0:cat", b"-101.0:0:cat", b"1.0:-1:cow", b"1.0:3:pig", b"\xff:0:a"]
)
def test_classes_that_cannot_be(text: bytes) -> None:
    fake = FakeServer(label_sets={"animals": ["cat", "dog", "cow"]})
    answer = fake.answer

    def spoiled(call: Call, key: str | None = None) -> Any:
        reply = answer(call, key)
        if isinstance(reply, InferResponse) and isinstance(call, InferRequest) and call.model == "classify_animals":
            items = next(t for t in reply.outputs if t.name == "logits").items()
            items[1] = text
            classes = Tensor("logits", "BYTES", (2, 1), Tensor.from_items("logits", items).data)
            return InferResponse(tuple(classes if t.name == "logits" else t for t in reply.outputs))
        return reply

    fake.answer = spoiled  # type: ignore[method-assign, assignment]
    with Client(transport=fake.transport()) as client:
        result = client.classify([b"cat", b"dog"], label_set="animals", top_k=1, on_error="return")
    assert [len(predictions) for predictions in result] == [1, 0]
    assert isinstance(result.errors[1], ProtocolError)


@pytest.mark.parametrize("counts", [[0, 3], [-1, 3], [3, 3, 3], [3]])
def test_token_counts_that_cannot_be(counts: list[int], fake: FakeServer) -> None:
    data = np.array(counts, "<i4").tobytes()
    count = Tensor("token_count", "INT32", (len(counts), 1), data)
    answer = fake.answer

    def spoiled(call: Call, key: str | None = None) -> Any:
        return InferResponse((count,)) if call.model == "text_tokenize" else answer(call, key)

    fake.answer = spoiled  # type: ignore[method-assign, assignment]
    with Client(transport=fake.transport()) as client, pytest.raises(ProtocolError, match="token counts"):
        client.count_tokens(["a", "b"])


class Lying:
    """Items with a length that is not theirs."""

    def __init__(self, count: int, length: Any) -> None:
        self._count = count
        self._length = length

    def __len__(self) -> Any:
        if isinstance(self._length, Exception):
            raise self._length
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return (f"item {number}".encode() for number in range(self._count))


@pytest.mark.parametrize("length", [0, 1, 16, 199, 201, 10**6, -1, 2.5, "many", LookupError("mine"), 2**80])
@pytest.mark.parametrize("count", [0, 1, 16, 17, 200])
def test_a_length_that_lies_costs_no_item(count: int, length: Any, embed: Embed, fake: FakeServer) -> None:
    result = embed(fake, Lying(count, length))
    assert len(result) == count
    for number in range(count):
        np.testing.assert_array_equal(result.features[number], features_of(f"item {number}".encode(), 16))


def test_a_length_that_lies_and_a_bar(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(transport=fake.transport()) as client:
        for length in (1, 500, -1):
            assert len(client.embed_images(Lying(200, length), progress=True)) == 200
    assert "200" in capsys.readouterr().err


def test_more_is_read_than_was_said_of_labels_and_texts_too(fake: FakeServer) -> None:
    texts: Any = type("Texts", (Lying,), {"__iter__": lambda self: (f"text {n}" for n in range(40))})(40, 1)
    with Client(transport=fake.transport()) as client:
        assert client.compare(b"a", texts).cosine.shape == (1, 40)
        assert len(client.classify(b"a", texts)[0]) == 40
        assert len(client.count_tokens(texts)) == 40


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "60", None, True - 1])
def test_timeouts_that_make_no_sense(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        Client(timeout=timeout, transport=FakeServer().transport())


@pytest.mark.parametrize(
    ("name", "count"),
    [*itertools.product(["concurrency", "batch_size"], [0, -1, 2.5, "8"]), ("concurrency", None)],
)
def test_counts_that_make_no_sense(name: str, count: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Client(transport=FakeServer().transport(), **{name: count})


def test_an_item_of_a_lone_surrogate_fails_alone(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.embed_texts(["a", "b\ud800", "c"], on_error="return")
    assert list(result.errors) == [1]
    assert isinstance(result.errors[1], InputError)


def test_asynchronous_iterables_have_no_length(fake: FakeServer) -> None:
    from tritonclip import AsyncClient

    class Images(Lying):
        async def __aiter__(self) -> Any:
            for number in range(40):
                yield f"item {number}".encode()

    async def main() -> int:
        async with AsyncClient(transport=fake.async_transport()) as client:
            return len(await client.embed_images(Images(0, 3)))

    assert asyncio.run(main()) == 40
