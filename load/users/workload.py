"""What the users of a scenario ask: drawn at random from images and texts whose right answers are known. Pure."""

import itertools
import random
import re
import time
from collections.abc import Mapping, Sequence

from load.core.checks import Outcome
from load.core.inputs import images, respelled, sentences
from load.core.workload import Answers, Question, Steps, learn
from load.users.scenarios import Scenario

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Workload:
    """A scenario's questions; `draw` as often as needed, from any greenlet. `kinds` has the rows of each image kind."""

    def __init__(self, scenario: Scenario, answers: Answers, kinds: Sequence[range]) -> None:
        self.scenario = scenario
        self._answers = answers
        self._kinds = kinds
        # Spellings must be new to caches that earlier runs, and other workers, have filled.
        self._spellings = itertools.count(time.time_ns())

    def draw(self, tasks: Mapping[str, float], generator: random.Random) -> Question:
        """A question for one of the tasks, by their weights."""
        (task,) = generator.choices(list(tasks), list(tasks.values()))
        if task == "embed_text":
            return self._answers.embed_texts(*self._draw_texts(1, generator))
        rows = self._draw_images(generator)
        if task == "embed_image":
            return self._answers.embed_images(rows)
        columns, spelled = self._draw_texts(generator.choice(self.scenario.labels), generator)
        ask = self._answers.compare if task == "compare" else self._answers.classify
        return ask(rows, columns, spelled)

    def _draw_images(self, generator: random.Random) -> list[int]:
        """Neighbours of one kind; a request may hold more than there are."""
        (kind,) = generator.choices(self._kinds, [kind.weight for kind in self.scenario.images])
        start = generator.randrange(len(kind))
        return [kind[(start + offset) % len(kind)] for offset in range(self.scenario.images_per_request)]

    def _draw_texts(self, count: int, generator: random.Random) -> tuple[list[int], list[str]]:
        """Different texts: word for word as before by the share of cache hits, else spelled as never before."""
        columns = generator.sample(range(len(self._answers.texts)), count)
        hits = [generator.random() < self.scenario.cache_hits for _ in columns]
        texts = [self._answers.texts[column] for column in columns]
        return columns, [t if hit else respelled(t, next(self._spellings)) for t, hit in zip(texts, hits, strict=True)]


class Fault(Exception):
    """Why a request counts as a failure. Its text begins with the outcome.

    It leaves numbers out: Locust keeps a line for every different text, and cosines and ids are all different.
    """

    def __init__(self, outcome: Outcome, note: str) -> None:
        super().__init__(f"{outcome}: {_NUMBER.sub('#', note)}")

    def __repr__(self) -> str:
        return str(self)


Inputs = tuple[list[tuple[bytes, ...]], tuple[str, ...]]
"""The files of each image kind, and texts."""


def make_inputs(scenario: Scenario) -> Inputs:
    """Large images take about a second each the first time, of CPU: mind the event loop."""
    return [images(spec) for spec in scenario.specs()], sentences(scenario.texts, scenario.seed)


def prepare(scenario: Scenario, inputs: Inputs, probe: Mapping[str, str] | None) -> Steps[Workload]:
    """Learn the right answers of the server that is asked."""
    files, texts = inputs
    ends = list(itertools.accumulate((len(kind) for kind in files), initial=0))
    kinds = [range(start, end) for start, end in itertools.pairwise(ends)]
    label_set = scenario.label_set if files else None
    answers = yield from learn(list(itertools.chain(*files)), texts, label_set, probe)
    return Workload(scenario, answers, kinds)
