"""What users ask, and that an answer which is not the right one is a failure."""

import base64
import random
from typing import Any

import numpy as np
import pytest

from load.core.checks import Outcome
from load.core.operations import Classify, ClassifyTexts, Compare, EmbedImages, EmbedTexts
from load.core.probe import WrongModel
from load.core.protocols import Disconnected, Failed, Malformed, Refused, RequestProblem, Unanswered
from load.core.sender import Fault, ask
from load.core.workload import Asked, Corpus, Deck, make_corpus, prepare
from load.users.scenarios import Scenario, parse_scenario, tasks_of
from tests.unit.load.fake_way import FakeWay, text_vectors, vectors

ALL_TASKS = {"embed_image": 4, "embed_text": 3, "compare": 2, "classify": 1}


def scenario(**changes: Any) -> Scenario:
    least = {
        "about": "x",
        "classes": {"GatewayUser": 1},
        "tasks": ALL_TASKS,
        "pictures": [
            {"width": 224, "height": 230, "count": 3, "weight": 3},
            {"width": 230, "height": 224, "format": "PNG", "count": 2, "weight": 1},
        ],
        "texts": 12,
        "labels": [1, 5],
        "users": 1,
        "seconds": 1,
    }
    return parse_scenario("mine", least | changes)


def deck(way: FakeWay | None = None, **changes: Any) -> Deck:
    chosen = scenario(**changes)
    return prepare(chosen, make_corpus(chosen), way or FakeWay(), probe=None)


def draws(count: int = 400, seed: int = 0, **changes: Any) -> list[Asked]:
    generator, made = random.Random(seed), deck(**changes)
    tasks = tasks_of("GatewayUser", "gateway", made.scenario)
    return [made.draw(tasks, generator) for _ in range(count)]


def outcome(asked: Asked, way: FakeWay) -> Fault | None:
    return ask(way, asked, way.prepare(asked.task), deadline=1.0, since=0.0).fault


def test_right_answers_pass_for_every_task() -> None:
    way = FakeWay()
    found = draws()
    assert {asked.name for asked in found} == set(ALL_TASKS)
    assert {type(asked.task) for asked in found} == {EmbedImages, EmbedTexts, Compare, ClassifyTexts}
    assert [outcome(asked, way) for asked in found] == [None] * len(found)


def test_right_answers_of_a_label_set_pass() -> None:
    found = draws(40, tasks={"classify": 1}, label_set="scenes")
    assert {type(asked.task) for asked in found} == {Classify}
    assert [outcome(asked, FakeWay()) for asked in found] == [None] * len(found)


class SwappedWay(FakeWay):
    """Answers about other items than those it was asked about; every vector is a perfect one, every score possible."""

    def send(self, request: Any, deadline: float) -> Any:
        answer = super().send(request, deadline)
        task = request.task
        if isinstance(task, EmbedImages):
            return vectors([image + b"another" for image in task.images])
        if isinstance(task, EmbedTexts):
            return text_vectors([text.strip() + " another" for text in task.texts])
        return answer * 0.5 + 0.4 if isinstance(task, Compare) else np.roll(answer, 1, axis=1)


def test_another_items_vector_is_a_failure_for_every_task() -> None:
    for asked in [*draws(), *draws(20, tasks={"classify": 1}, label_set="scenes")]:
        fault = outcome(asked, SwappedWay())
        assert fault is not None, asked.name
        assert fault.outcome is Outcome.WRONG
        assert str(fault).startswith("wrong: ")


def test_a_swapped_reference_set_is_noticed() -> None:
    """The references of the pictures in another order: each answer is then another picture's."""
    chosen = scenario(tasks={"embed_image": 1})
    corpus = make_corpus(chosen)
    swapped = prepare(chosen, Corpus(corpus.images[::-1], corpus.kinds, corpus.texts), FakeWay(), probe=None)
    swapped._corpus = corpus
    found = [swapped.draw({"embed_image": 1}, random.Random(seed)) for seed in range(50)]
    wrong = [asked for asked in found if outcome(asked, FakeWay()) is not None]
    middle = corpus.images[2]  # of five, it stays where it is
    assert wrong == [asked for asked in found if isinstance(asked.task, EmbedImages) and asked.task.images != [middle]]
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
    class Broken(FakeWay):
        def send(self, request: Any, deadline: float) -> Any:
            return broken(super().send(request, deadline))

    for asked in draws(20, tasks={"embed_image": 1, "embed_text": 1}):
        fault = outcome(asked, Broken())
        assert fault is not None
        assert fault.outcome is Outcome.WRONG


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
    way = FakeWay()
    way.problem = problem
    fault = outcome(asked, way)
    assert fault is not None
    assert fault.outcome is expected
    assert repr(fault) == str(fault)
    assert str(fault).startswith(f"{expected}: ")
    assert not any(character.isdigit() for character in str(fault))


def test_cache_hits_are_the_share_that_was_asked_for_and_all_others_are_new() -> None:
    def sent(share: float) -> list[str]:
        tasks = [asked.task for asked in draws(2000, tasks={"embed_text": 1}, cache_hits=share)]
        return [text for task in tasks if isinstance(task, EmbedTexts) for text in task.texts]

    known = set(make_corpus(scenario()).texts)
    assert set(sent(1)) <= known
    never, some = sent(0), sent(0.3)
    assert len(set(never)) == len(never)
    assert {text.strip() for text in never} <= known
    assert not set(never) & known
    assert sum(text in known for text in some) / len(some) == pytest.approx(0.3, abs=0.04)


def test_kinds_labels_and_tasks_come_in_proportion() -> None:
    found = draws(4000)
    shares = {name: sum(asked.name == name for asked in found) / len(found) for name in ALL_TASKS}
    assert shares == pytest.approx({"embed_image": 0.4, "embed_text": 0.3, "compare": 0.2, "classify": 0.1}, abs=0.03)
    images = [asked.task.images[0] for asked in found if isinstance(asked.task, EmbedImages)]
    assert sum(image.startswith(b"\x89PNG") for image in images) / len(images) == pytest.approx(0.25, abs=0.04)
    assert {len(asked.task.texts) for asked in found if isinstance(asked.task, Compare)} == {1, 5}


def test_a_request_may_hold_more_images_than_there_are() -> None:
    (asked,) = draws(1, tasks={"embed_image": 1}, images_per_request=7)
    assert isinstance(asked.task, EmbedImages)
    assert len(asked.task.images) == 7
    assert outcome(asked, FakeWay()) is None


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = ([(asked.name, asked.task) for asked in draws(50, seed, cache_hits=1)] for seed in (1, 1, 2))
    assert first == again != other


def test_every_item_is_asked_for_alone_before_the_load() -> None:
    way = FakeWay()
    made = deck(way)
    assert [task.items for task in way.asked] == [1] * (5 + 12)
    assert {text for task in way.asked if isinstance(task, EmbedTexts) for text in task.texts} == set(
        make_corpus(made.scenario).texts
    )


def test_the_wrong_model_is_refused_by_its_probe() -> None:
    def probe(image_of: bytes) -> dict[str, str]:
        return {
            "image": base64.b64encode(b"an image").decode(),
            "image_features": base64.b64encode(vectors([image_of]).astype("<f2").tobytes()).decode(),
            "text": "a sentence",
            "text_features": base64.b64encode(text_vectors(["a sentence"]).astype("<f2").tobytes()).decode(),
        }

    chosen = scenario()
    prepare(chosen, make_corpus(chosen), FakeWay(), probe(b"an image"))
    with pytest.raises(WrongModel, match="image_features"):
        prepare(chosen, make_corpus(chosen), FakeWay(), probe(b"another image"))
