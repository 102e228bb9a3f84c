"""What the users of a scenario ask: drawn at random from pictures and texts whose right answers are known.

    Scenario ─> prepare: asks for every item alone, before the load ─> Deck ─> draw ─> Asked: a task with its check

The right answers are the server's own, one item at a time; whether that is the right server, the probe in its manifest
says. Nothing here knows Locust.
"""

import itertools
import random
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from load.core.checks import Check, References, check_scores
from load.core.inputs import pictures, respelled, sentences
from load.core.operations import Classify, ClassifyTexts, Compare, EmbedImages, EmbedTexts, Task
from load.core.probe import WrongModel, probe_questions
from load.core.protocols import Prepared
from load.users.scenarios import Scenario
from tritonclip._messages import FloatArray

PATIENCE = 60.0  # seconds for an answer to one item on an idle server
ALL_LABELS = 10_000  # more than any label set has


class Way(Protocol):
    """A way in, for callers that wait; `load.core.clients_gevent` has three."""

    name: str

    def prepare(self, task: Task) -> Prepared:
        """Make the request."""

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        """The answer within `deadline` seconds, or a RequestProblem."""


class Asked(NamedTuple):
    """A request to be made: what it is counted as, the task, and what tells whether its answer is right."""

    name: str
    task: Task
    check: Check


class Corpus(NamedTuple):
    """The items of a scenario: encoded images, which of them each kind of picture has, and texts."""

    images: tuple[bytes, ...]
    kinds: tuple[range, ...]
    texts: tuple[str, ...]


class Deck:
    """The items of a scenario with the right answers to them; `draw` as often as needed, from any greenlet.

    `labelled` [images, C] are the probabilities of the scenario's label set, None where it names none.
    """

    def __init__(
        self,
        scenario: Scenario,
        corpus: Corpus,
        images: References | None,
        texts: References,
        labelled: FloatArray | None,
    ) -> None:
        self.scenario = scenario
        self._corpus = corpus
        self._images = images
        self._texts = texts
        self._labelled = labelled
        # Spellings must be new to caches that earlier runs, and other workers, have filled.
        self._spellings = itertools.count(time.time_ns())

    def draw(self, tasks: Mapping[str, float], generator: random.Random) -> Asked:
        """A request for one of the tasks, by their weights."""
        (name,) = generator.choices(list(tasks), list(tasks.values()))
        if name == "embed_text":
            (index,), texts = self._draw_texts(1, generator)
            return Asked(name, EmbedTexts(texts), self._texts.check([index]))
        if self._images is None:
            raise ValueError(f"{self.scenario.name} has no pictures for {name}")
        rows = self._draw_images(generator)
        images = [self._corpus.images[row] for row in rows]
        if name == "embed_image":
            return Asked(name, EmbedImages(images), self._images.check(rows))
        if name == "classify" and self.scenario.label_set is not None and self._labelled is not None:
            task = Classify(images, self.scenario.label_set, ALL_LABELS)
            return Asked(name, task, check_scores(self._labelled[rows]))
        columns, texts = self._draw_texts(generator.choice(self.scenario.labels), generator)
        cosines = self._images.features[rows] @ self._texts.features[columns].T
        return Asked(name, (Compare if name == "compare" else ClassifyTexts)(images, texts), check_scores(cosines))

    def _draw_images(self, generator: random.Random) -> list[int]:
        """Neighbours of one kind; a request may hold more than there are."""
        weights = [kind.weight for kind in self.scenario.pictures]
        (kind,) = generator.choices(self._corpus.kinds, weights)
        start = generator.randrange(len(kind))
        return [kind[(start + offset) % len(kind)] for offset in range(self.scenario.images_per_request)]

    def _draw_texts(self, count: int, generator: random.Random) -> tuple[list[int], list[str]]:
        """Different texts: word for word as before by the share of cache hits, else spelled as never before."""
        indices = generator.sample(range(len(self._corpus.texts)), count)
        texts = [self._corpus.texts[index] for index in indices]
        hits = [generator.random() < self.scenario.cache_hits for _ in texts]
        return indices, [
            text if hit else respelled(text, next(self._spellings)) for text, hit in zip(texts, hits, strict=True)
        ]


def make_corpus(scenario: Scenario) -> Corpus:
    """Pictures and texts. Large pictures take about a second each the first time, of CPU: mind the event loop."""
    files = [pictures(kind.spec) for kind in scenario.pictures]
    ends = list(itertools.accumulate((len(kind) for kind in files), initial=0))
    kinds = tuple(range(start, end) for start, end in itertools.pairwise(ends))
    return Corpus(tuple(itertools.chain(*files)), kinds, sentences(scenario.texts, scenario.seed))


def prepare(scenario: Scenario, corpus: Corpus, way: Way, probe: Mapping[str, str] | None) -> Deck:
    """A deck with the answers of the server behind this way, one item at a time.

    Raises WrongModel where it does not answer its probe rightly, ValueError for answers that are no vectors, and
    RequestProblems.
    """
    for name, (task, check) in probe_questions(probe).items():
        if fault := check(_answers(way, [task])):
            raise WrongModel(f"{name} of the probe: {fault}")
    images = None
    labelled = None
    if corpus.images:
        images = References(_answers(way, (EmbedImages([image]) for image in corpus.images)))
        if scenario.label_set is not None:
            tasks = (Classify([image], scenario.label_set, ALL_LABELS) for image in corpus.images)
            labelled = _answers(way, tasks)
    texts = References(_answers(way, (EmbedTexts([text]) for text in corpus.texts)))
    return Deck(scenario, corpus, images, texts, labelled)


def _answers(way: Way, tasks: Iterable[Task]) -> FloatArray:
    return np.concatenate([way.send(way.prepare(task), PATIENCE) for task in tasks])
