"""What users ask, and that an answer which is not the right one is a failure."""

import base64
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from load.core.checks import Outcome, check_scores
from load.core.operations import Classify, ClassifyTexts, Compare, EmbedImages, EmbedTexts
from load.core.protocols import Disconnected, Failed, Malformed, Refused, RequestProblem, Unanswered
from load.core.sender import Sample, send
from load.core.workload import Question, WrongModel, ask, learn
from load.users.scenarios import Scenario, parse_scenario, tasks_of
from load.users.workload import Fault, Workload, make_inputs, prepare
from tests.unit.load.fake_client import FakeClient, text_vectors, vectors
from tritonclip import ProtocolError
from tritonclip.protocol import FloatArray, InferResponse, Tensor

ALL_TASKS = {"embed_image": 4, "embed_text": 3, "compare": 2, "classify": 1}


def scenario(**changes: Any) -> Scenario:
    least = {
        "about": "x",
        "classes": {"GatewayUser": 1},
        "tasks": ALL_TASKS,
        "images": [
            {"width": 224, "height": 230, "count": 3, "weight": 3},
            {"width": 230, "height": 224, "format": "PNG", "count": 2, "weight": 1},
        ],
        "texts": 12,
        "labels": [1, 5],
        "users": 1,
        "seconds": 1,
    }
    return parse_scenario("mine", least | changes)


def workload(client: FakeClient | None = None, **changes: Any) -> Workload:
    chosen = scenario(**changes)
    return ask(client or FakeClient(), prepare(chosen, make_inputs(chosen), probe=None))


def draws(count: int = 400, seed: int = 0, **changes: Any) -> list[Question]:
    generator, made = random.Random(seed), workload(**changes)
    tasks = tasks_of("GatewayUser", "gateway", made.scenario)
    return [made.draw(tasks, generator) for _ in range(count)]


def outcome(asked: Question, client: FakeClient) -> Sample:
    return send(client, client.prepare(asked.operation), asked.check, deadline=1.0, started=0.0)


def test_right_answers_pass_for_every_task() -> None:
    client = FakeClient()
    found = draws()
    assert {asked.operation.name for asked in found} == set(ALL_TASKS)
    assert {type(asked.operation) for asked in found} == {EmbedImages, EmbedTexts, Compare, ClassifyTexts}
    assert {outcome(asked, client).outcome for asked in found} == {Outcome.ANSWERED}


def test_right_answers_of_a_label_set_pass() -> None:
    found = draws(40, tasks={"classify": 1}, label_set="scenes")
    assert {type(asked.operation) for asked in found} == {Classify}
    assert {outcome(asked, FakeClient()).outcome for asked in found} == {Outcome.ANSWERED}


@pytest.mark.parametrize("over", ["triton", "gateway"])
def test_another_images_labels_are_wrong_even_where_every_sigmoid_is_near_0(over: str) -> None:
    operation = Classify([b"an image"], "scenes", 3)

    def read(logits: list[float]) -> FloatArray:
        if over == "triton":
            return operation.read(InferResponse((Tensor.from_array("logits", np.array([logits], np.float32)),)))
        labels = [{"index": index, "logit": logit} for index, logit in enumerate(logits)]
        return operation.read_json({"data": [{"index": 0, "labels": labels[::-1]}]})

    right, wrong = read([-20, -12, -16]), read([-12, -20, -16])
    check = check_scores(right)
    assert check(right) is None
    assert check(wrong) is not None
    with pytest.raises(ProtocolError):
        operation.read_json({"data": [{"index": 0, "labels": [{"index": 0}]}]})


class SwappedClient(FakeClient):
    """Answers about other items than those it was asked about; every vector is a perfect one, every score possible."""

    def send(self, request: Any, deadline: float) -> Any:
        answer = super().send(request, deadline)
        task = request.operation
        if isinstance(task, EmbedImages):
            return vectors([image + b"another" for image in task.images])
        if isinstance(task, EmbedTexts):
            return text_vectors([text.strip() + " another" for text in task.texts])
        return answer * 0.5 + 0.4 if isinstance(task, Compare) else np.roll(answer, 1, axis=1)


def test_another_items_vector_is_a_failure_for_every_task() -> None:
    for asked in [*draws(), *draws(20, tasks={"classify": 1}, label_set="scenes")]:
        sample = outcome(asked, SwappedClient())
        assert sample.outcome is Outcome.WRONG, asked.operation.name
        assert str(Fault(sample.outcome, sample.note)).startswith("wrong: ")


def test_a_swapped_reference_set_is_noticed() -> None:
    """The references of the images in another order: each answer is then another image's."""
    chosen = scenario(tasks={"embed_image": 1})
    kinds, texts = make_inputs(chosen)
    images = [image for kind in kinds for image in kind]
    answers = ask(FakeClient(), learn(images[::-1], texts))
    swapped = Workload(chosen, replace(answers, images=images), [range(3), range(3, 5)])
    found = [swapped.draw({"embed_image": 1}, random.Random(seed)) for seed in range(50)]
    wrong = [asked for asked in found if outcome(asked, FakeClient()).outcome is Outcome.WRONG]
    middle = images[2]  # of five, it stays where it is
    assert wrong == [asked for asked in found if asked.operation.images != [middle]]
    assert len(wrong) > 30


@pytest.mark.parametrize(
    "broken",
    [
        lambda answer: answer * 1.1,
        lambda answer: answer * np.nan,
        lambda answer: answer[:, :-1],
        lambda answer: answer[:0],
        lambda answer: -answer,
    ],
    ids=["length", "not finite", "narrow", "empty", "turned"],
)
def test_broken_vectors_are_wrong(broken: Any) -> None:
    class Broken(FakeClient):
        def send(self, request: Any, deadline: float) -> Any:
            return broken(super().send(request, deadline))

    for asked in draws(20, tasks={"embed_image": 1, "embed_text": 1}):
        assert outcome(asked, Broken()).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Refused("queue full: 64"), Outcome.REFUSED),
        (Failed("500", "no"), Outcome.FAILED),
        (Disconnected("gone"), Outcome.FAILED),
        (Unanswered("nothing within 30 s"), Outcome.HUNG),
        (Malformed("not JSON"), Outcome.WRONG),
    ],
)
def test_every_problem_is_a_failure_under_its_name(problem: RequestProblem, expected: Outcome) -> None:
    (asked,) = draws(1)
    client = FakeClient()
    client.problem = problem
    sample = outcome(asked, client)
    assert sample.outcome is expected
    fault = Fault(sample.outcome, sample.note)
    assert repr(fault) == str(fault)
    assert str(fault).startswith(f"{expected}: ")
    assert not any(character.isdigit() for character in str(fault))


def test_cache_hits_are_the_share_that_was_asked_for_and_all_others_are_new() -> None:
    def sent(share: float) -> list[str]:
        tasks = [asked.operation for asked in draws(2000, tasks={"embed_text": 1}, cache_hits=share)]
        return [text for task in tasks if isinstance(task, EmbedTexts) for text in task.texts]

    known = set(make_inputs(scenario())[1])
    assert set(sent(1)) <= known
    never, some = sent(0), sent(0.3)
    assert len(set(never)) == len(never)
    assert {text.strip() for text in never} <= known
    assert not set(never) & known
    assert sum(text in known for text in some) / len(some) == pytest.approx(0.3, abs=0.04)


def test_kinds_labels_and_tasks_come_in_proportion() -> None:
    found = draws(4000)
    shares = {name: sum(asked.operation.name == name for asked in found) / len(found) for name in ALL_TASKS}
    assert shares == pytest.approx({"embed_image": 0.4, "embed_text": 0.3, "compare": 0.2, "classify": 0.1}, abs=0.03)
    images = [asked.operation.images[0] for asked in found if isinstance(asked.operation, EmbedImages)]
    assert sum(image.startswith(b"\x89PNG") for image in images) / len(images) == pytest.approx(0.25, abs=0.04)
    assert {len(asked.operation.texts) for asked in found if isinstance(asked.operation, Compare)} == {1, 5}


def test_a_request_may_hold_more_images_than_there_are() -> None:
    (asked,) = draws(1, tasks={"embed_image": 1}, images_per_request=7)
    assert isinstance(asked.operation, EmbedImages)
    assert len(asked.operation.images) == 7
    assert outcome(asked, FakeClient()).outcome is Outcome.ANSWERED


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = ([asked.operation for asked in draws(50, seed, cache_hits=1)] for seed in (1, 1, 2))
    assert first == again != other


def test_every_item_is_asked_for_alone_before_the_load() -> None:
    client = FakeClient()
    made = workload(client)
    assert [operation.items for operation in client.asked] == [1] * (5 + 12)
    texts = {text for operation in client.asked for text in operation.texts}
    assert texts == set(make_inputs(made.scenario)[1])


def test_the_wrong_model_is_refused_by_its_probe() -> None:
    def probe(image_of: bytes) -> dict[str, str]:
        return {
            "image": base64.b64encode(b"an image").decode(),
            "image_features": base64.b64encode(vectors([image_of]).astype("<f2").tobytes()).decode(),
            "text": "a sentence",
            "text_features": base64.b64encode(text_vectors(["a sentence"]).astype("<f2").tobytes()).decode(),
        }

    chosen = scenario()
    ask(FakeClient(), prepare(chosen, make_inputs(chosen), probe(b"an image")))
    with pytest.raises(WrongModel, match="image_features"):
        ask(FakeClient(), prepare(chosen, make_inputs(chosen), probe(b"another image")))
