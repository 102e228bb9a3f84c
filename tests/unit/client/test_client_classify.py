"""Labels for images: given with the call, or stored on the server as a label set."""

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Wire
from tritonclip import AsyncClient, Client, ConfigError, InputError, ProtocolError, _defaults
from tritonclip.protocol.messages import Call, InferRequest, InferResponse, Tensor
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer

LABELS = ["cow", "a: cat", "dog", "horse"]
SIGMOID = {"logit_scale": 10.0, "logit_bias": -3.0}


@pytest.fixture
def stored() -> FakeServer:
    return FakeServer(label_sets={"animals": LABELS})


def test_labels_are_put_in_the_template_and_sorted(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.classify([b"see: {cat}!", b"see: dog!"], ["cow", "{cat}", "dog"], template="see: {}!")
    assert [request.inputs[0].items() for request in fake.requests("embed_text")] == [
        [b"see: cow!", b"see: {cat}!", b"see: dog!"]
    ]
    assert [predictions[0].label for predictions in result] == ["{cat}", "dog"]
    for predictions in result:
        assert len(predictions) == 3
        logits = [prediction.logit for prediction in predictions]
        assert logits == sorted(logits, reverse=True)
        assert sum(prediction.probability or 0 for prediction in predictions) == pytest.approx(1)
        assert predictions[0].cosine == pytest.approx(1)
        assert predictions[0].logit == pytest.approx(100)


def test_the_default_template(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.classify(b"image", "cat")
    assert fake.requests("embed_text")[0].inputs[0].items() == [b"a photo of a cat"]


def test_top_k(fake: FakeServer) -> None:
    labels = [f"label {number}" for number in range(30)]
    with Client(transport=fake.transport()) as client:
        everything = client.classify(b"image", labels)[0]
        assert client.classify(b"image", labels, top_k=3)[0] == everything[:3]
        assert client.classify(b"image", labels, top_k=100)[0] == everything
        with pytest.raises(ConfigError, match="top_k"):
            client.classify(b"image", labels, top_k=0)


def test_classifying_a_bad_image(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.classify([b"bad", b"good"], ["a", "b"], on_error="return")
        assert result[0] == ()
        assert len(result[1]) == 2
        assert list(result.errors) == [0]
        with pytest.raises(ConfigError, match="template"):
            client.classify(b"good", ["a"], template="no place for it")
        with pytest.raises(InputError, match="label 1"):
            client.classify(b"good", ["a", 2])  # type: ignore[list-item]


def test_no_images_and_no_labels(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        with pytest.raises(InputError, match="no labels"):
            client.classify(b"image", [])
        assert len(client.classify([], ["a"])) == 0


def test_label_features_are_asked_for_once(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        first = client.classify(b"image", ["a", "b"])
        assert client.classify(b"image", ["a", "b"])[0] == first[0]
        assert len(fake.requests("embed_text")) == 1
        client.classify(b"image", ["a", "b"], template="the {}")
        client.classify(b"image", ["b", "a"])
        assert len(fake.requests("embed_text")) == 3


def test_label_features_of_a_replaced_model_are_not_used(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.classify(b"image", ["a", "b"])
        fake.manifest["fingerprint"] = "another"
        client.classify(b"image", ["a", "b"])
        assert len(fake.requests("embed_text")) == 2
        assert client.manifest().fingerprint == "another"


def test_label_features_without_a_fingerprint_are_not_kept(fake: FakeServer) -> None:
    fake.manifest["fingerprint"] = None
    with Client(transport=fake.transport()) as client:
        for _ in range(2):
            client.classify(b"image", ["a", "b"])
    assert len(fake.requests("embed_text")) == 2


def test_the_memory_of_label_features_is_bounded(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_defaults, "LABELS_KEPT", 5)
    with Client(transport=fake.transport()) as client:
        for labels in (["a", "b"], ["c", "d"], ["e", "f"]):  # the last one pushes the first one out
            client.classify(b"image", labels)
        client.classify(b"image", ["c", "d"])
        assert len(fake.requests("embed_text")) == 3
        client.classify(b"image", ["a", "b"])
        client.classify(b"image", [f"label {number}" for number in range(6)])  # too many to be kept at all
        assert client.classify(b"image", ["a", "b"], top_k=1)[0][0].label in "ab"


def test_scores_of_labels_are_the_servers(fake: FakeServer) -> None:
    """What is computed here equals the similarity model's answer, also for a model with a bias."""
    for calibration in ({}, SIGMOID):
        fake.manifest |= calibration
        with Client(transport=fake.transport()) as client:
            ours = {p.label: p for p in client.classify(b"image", LABELS, template="{}")[0]}
            theirs = client.compare(b"image", LABELS)
        for index, label in enumerate(LABELS):
            assert ours[label].cosine == pytest.approx(float(theirs.cosine[0, index]), abs=1e-6)
            assert ours[label].logit == pytest.approx(float(theirs.logits[0, index]), abs=1e-4)
            assert ours[label].probability == pytest.approx(float(theirs.probabilities[0, index]), abs=1e-6)


@pytest.mark.parametrize("calibration", [{}, SIGMOID])
def test_a_label_set_answers_as_its_labels_do(stored: FakeServer, calibration: dict[str, float]) -> None:
    stored.manifest |= calibration
    images = [label.encode() for label in LABELS] + [b"something else"]
    with Client(transport=stored.transport(), batch_size=2) as client:
        from_set = client.classify(images, label_set="animals")
        given = client.classify(images, LABELS, template="{}")
        assert client.classify(images, label_set="animals", top_k=2).predictions == tuple(
            row[:2] for row in from_set.predictions
        )
    assert [row[0].label for row in from_set][:4] == LABELS
    for ours, theirs in zip(from_set, given, strict=True):
        assert [p.label for p in ours] == [p.label for p in theirs] == [LABELS[p.index or 0] for p in ours]
        assert [p.index for p in ours] == [p.index for p in theirs]
        for name in ("probability", "cosine", "logit"):
            left, right = ([getattr(p, name) for p in row] for row in (ours, theirs))
            np.testing.assert_allclose(left, right, atol=1e-5)


def test_labels_of_one_name_in_a_label_set_are_told_apart_by_their_index() -> None:
    labels = ["dog", "missile", "cow", "missile"]
    with Client(transport=FakeServer(label_sets={"things": labels}).transport()) as client:
        best = client.classify(b"missile", label_set="things")[0]
    assert {(p.label, p.index) for p in best} == set(zip(labels, range(4), strict=True))


def test_a_manifest_has_the_names_of_its_label_sets(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        assert client.manifest().label_sets["animals"].names == tuple(LABELS)
    del stored.manifest["label_sets"]["animals"]["names"]
    with Client(transport=stored.transport()) as client:
        assert client.manifest().label_sets["animals"].names == ()
    stored.manifest["label_sets"]["animals"]["names"] = ["one too few"]
    with Client(transport=stored.transport()) as client, pytest.raises(ProtocolError, match="4 labels and 1 names"):
        client.manifest()


def test_a_label_set_is_asked_for_its_best_alone(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        client.classify([b"a", b"b", b"c"], label_set="animals", top_k=1)
        client.classify(b"a", label_set="animals", top_k=100)
    first, second = stored.requests("classify_animals")
    assert first.classes == {"logits": 1}
    assert second.classes == {"logits": len(LABELS)}
    assert stored.requests("embed_text") == []


def test_a_bad_image_costs_a_label_set_only_itself(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        result = client.classify([b"cow", b"bad", b"dog"], label_set="animals", top_k=1, on_error="return")
        assert [row[0].label if row else None for row in result] == ["cow", None, "dog"]
        assert list(result.errors) == [1]
        with pytest.raises(InputError, match="image 1"):
            client.classify([b"cow", b"bad", b"dog"], label_set="animals")


def test_a_label_set_that_is_not_there(stored: FakeServer, fake: FakeServer) -> None:
    with Client(transport=stored.transport()) as client, pytest.raises(ConfigError, match="'plants'; it has animals"):
        client.classify(b"image", label_set="plants")
    with Client(transport=fake.transport()) as client, pytest.raises(ConfigError, match="tritonclip-server labels"):
        client.classify(b"image", label_set="plants")


def test_labels_and_a_label_set_exclude_each_other(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        for arguments in ({}, {"labels": ["a"], "label_set": "animals"}):
            with pytest.raises(ConfigError, match="either"):
                client.classify(b"image", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [{"label_set": "animals"}, {"labels": LABELS, "template": "{}"}])
def test_none_of_these(stored: FakeServer, choice: dict[str, Any]) -> None:
    stored.manifest["logit_scale"] = 5.0
    with Client(transport=stored.transport()) as client:
        everything = client.classify([b"cow", b"something else"], **choice)
        (best, *_), (other, *_) = everything
        assert best.probability is not None
        assert other.probability is not None
        threshold = other.probability + 1e-3
        assert best.probability > threshold
        result = client.classify([b"cow", b"something else"], threshold=threshold, **choice)
        assert [p.label for p in result[0]] == ["cow"]
        assert result[1] == ()
        assert result.errors == {}
        with pytest.raises(ConfigError, match="threshold"):
            client.classify(b"cow", threshold=1.5, **choice)


@pytest.mark.parametrize("text", [b"1.5:9:cow", b"cow", b"x:0:cow", b"0.5:zero:cow"])
def test_classes_that_make_no_sense_are_refused(stored: FakeServer, text: bytes) -> None:
    spoil(stored, lambda tensor: Tensor(tensor.name, "BYTES", (1, 1), len(text).to_bytes(4, "little") + text))
    with Client(transport=stored.transport()) as client, pytest.raises(ProtocolError, match="not a class"):
        client.classify(b"image", label_set="animals", top_k=1)


def test_classes_of_a_wrong_number_are_refused(stored: FakeServer) -> None:
    spoil(stored, lambda tensor: Tensor(tensor.name, "BYTES", (1, 1), b"\5\0\0\0" + b"1:0:a"))
    with Client(transport=stored.transport()) as client, pytest.raises(ProtocolError, match="4 labels"):
        client.classify(b"image", label_set="animals", top_k=2)


def spoil(fake: FakeServer, change: Any) -> None:
    """Put something else in the place of the classes that a label set answers."""
    answer = fake.answer

    def spoiled(call: Call, key: str | None = None) -> Any:
        reply = answer(call, key)
        if isinstance(call, InferRequest) and call.model.startswith("classify_"):
            assert isinstance(reply, InferResponse)
            return InferResponse(tuple(change(t) if t.name == "logits" else t for t in reply.outputs))
        return reply

    fake.answer = spoiled  # type: ignore[method-assign, assignment]


def test_over_a_wire(wire: Wire) -> None:
    """The classification extension's parameter, and its texts, over gRPC and HTTP, blocking and not."""
    wire.fake.store_label_set("animals", LABELS)
    result = wire.run(lambda client: client.classify([b"dog", b"a: cat"], label_set="animals", top_k=2))
    assert [row[0].label for row in result] == ["dog", "a: cat"]
    assert [len(row) for row in result] == [2, 2]
    assert wire.fake.requests("classify_animals")[0].classes == {"logits": 2}


def test_status_lists_the_models_of_label_sets(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        assert client.status().models["classify_animals"]
        stored.not_ready.add("head_animals")
        assert not client.status().ready
    assert client.manifest().label_sets["animals"].labels == 4


def test_asynchronous_classification(stored: FakeServer) -> None:
    async def main() -> Any:
        async with AsyncClient(transport=stored.async_transport()) as client:
            given = await client.classify([b"a photo of a cat"], ["dog", "cat"])
            return given, await client.classify([b"dog"], label_set="animals", top_k=1)

    given, from_set = asyncio.run(main())
    assert [prediction.label for prediction in given[0]] == ["cat", "dog"]
    assert from_set[0][0].label == "dog"


def test_a_server_that_does_not_say_its_scale(fake: FakeServer) -> None:
    fake.manifest["logit_scale"] = None
    with Client(transport=fake.transport()) as client, pytest.raises(ProtocolError, match="logit_scale"):
        client.classify(b"image", ["a"])


def test_a_full_queue_is_waited_for(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        client.manifest()
        stored.failures += [status_error("UNAVAILABLE", "full")] * 2
        assert client.classify(b"dog", label_set="animals", top_k=1)[0][0].label == "dog"


@pytest.fixture
def trained() -> FakeServer:
    server = FakeServer()
    server.store_label_set("birds", LABELS, trained=True, threshold=0.4)
    return server


def test_a_trained_label_set_has_no_cosine(trained: FakeServer) -> None:
    trained.manifest["logit_scale"] = 1e-3  # no cosine makes these logits
    with Client(transport=trained.transport()) as client:
        label_set = client.manifest().label_sets["birds"]
        assert (label_set.kind, label_set.threshold, label_set.templates) == ("trained", 0.4, ())
        (row,) = client.classify(b"dog", label_set="birds")
        assert {prediction.cosine for prediction in row} == {None}
        assert sum(prediction.probability or 0 for prediction in row) == pytest.approx(1)
        with pytest.raises(ConfigError, match=r"min_cosine.*'birds' was trained.*threshold.*0\.4"):
            client.classify(b"dog", label_set="birds", min_cosine=0.1)
        assert client.classify(b"dog", label_set="birds", threshold=0.9)[0] == ()


def test_two_trained_labels_of_a_model_with_a_bias_are_compared(trained: FakeServer) -> None:
    """Its own probabilities are sigmoids; a trained head's are a softmax whatever the model."""
    trained.store_label_set("animals", LABELS)
    trained.manifest |= SIGMOID
    with Client(transport=trained.transport()) as client:
        found = {name: client.classify(b"dog", label_set=name, threshold=0.0) for name in ("birds", "animals")}
        sets = client.manifest().label_sets
        assert (found["birds"].activation, found["animals"].activation) == ("softmax", "sigmoid")
        assert {name: entry.activation for name, entry in sets.items()} == {"birds": "softmax", "animals": "sigmoid"}
        assert client.compare(b"dog", "dog").activation == client.manifest().activation == "sigmoid"
    for best in found["animals"][0]:
        assert best.probability == pytest.approx(1 / (1 + np.exp(-best.logit)), rel=1e-4)
    assert sum(best.probability or 0 for best in found["birds"][0]) == pytest.approx(1)


def test_results_of_a_model_without_a_bias_are_a_softmax(stored: FakeServer) -> None:
    with Client(transport=stored.transport()) as client:
        assert client.manifest().label_sets["animals"].activation == "softmax"
        for choice in ({"label_set": "animals"}, {"labels": LABELS}):
            assert client.classify(b"dog", **choice).activation == "softmax"
        assert client.compare(b"dog", "dog").activation == client.manifest().activation == "softmax"


def test_a_new_label_set_is_known_at_the_next_call(stored: FakeServer) -> None:
    stored.manifest["revision"] = "1"
    with Client(transport=stored.transport()) as client:
        client.classify(b"dog", label_set="animals")
        with pytest.raises(ConfigError, match="no label set 'birds'"):
            client.classify(b"dog", label_set="birds")
        stored.store_label_set("birds", ["crow", "dog"], trained=True)
        stored.manifest["revision"] = "2"
        assert client.classify(b"dog", label_set="birds")[0][0].label == "dog"
        asked = [request.outputs for request in stored.requests("manifest")]
        assert asked == [("manifest",), ("revision",), ("revision",), ("manifest",)]


def test_a_server_that_knows_no_revisions_any_more_is_asked_for_its_manifest(stored: FakeServer) -> None:
    stored.manifest["revision"] = "1"
    with Client(transport=stored.transport()) as client:
        client.classify(b"dog", label_set="animals")
        del stored.manifest["revision"]
        assert client.classify(b"dog", label_set="animals")[0][0].label == "dog"
        client.classify(b"dog", label_set="animals")
        assert stored.requests("manifest")[-1].outputs == ("fingerprint",)


@pytest.mark.parametrize("labels", [["wren", "dog"], ["wren", "dog", "owl", "robin", "finch", "crow"]])
@pytest.mark.parametrize("top_k", [None, 3])
def test_a_label_set_that_is_replaced_during_the_call_answers_for_itself(
    stored: FakeServer, labels: list[str], top_k: int | None
) -> None:
    """The ensemble is exchanged a little before the manifest says so."""
    stored.manifest["revision"] = "1"
    with Client(transport=stored.transport()) as client:
        client.manifest()
        stored.store_label_set("animals", labels)
        stored.manifest["label_sets"]["animals"] |= {"labels": 4, "names": LABELS}
        (row,) = client.classify(b"dog", label_set="animals", top_k=top_k)
    assert row[0].label == "dog"
    assert len(row) == min(top_k or 99, len(labels))
    assert {prediction.label for prediction in row} <= {*labels}


def test_a_kind_that_is_not_known_is_named(stored: FakeServer) -> None:
    stored.manifest["label_sets"]["animals"]["kind"] = "guessed"
    with Client(transport=stored.transport()) as client, pytest.raises(ProtocolError, match=r"'animals'.*'guessed'"):
        client.manifest()
