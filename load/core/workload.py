"""Questions whose right answers are known: the server's own, one item at a time, before any load.

    learn: asks for every item alone ─> Answers ─> Question: an operation with the check of its answer

Whether those answers are of the right server, the probe in its manifest says: an image and a sentence with eager
open_clip's vectors of them. What is to be asked is a generator of operations, so that clients which wait and those
which are awaited (`ask`, `ask_async`) learn alike.
"""

import base64
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from load.core.checks import Check, References, check_scores
from load.core.inputs import respelled
from load.core.operations import Classify, ClassifyTexts, Compare, EmbedImages, EmbedTexts, Operation
from load.core.sender import AsyncClient, BlockingClient
from tritonclip.protocol import FloatArray

PATIENCE = 60.0  # seconds for an answer to one item on an idle server
ALL_LABELS = 10_000  # more than any label set has

Learned = TypeVar("Learned")
Steps = Generator[Operation, FloatArray, Learned]
"""Yields operations, is sent their answers, and returns what it has learned."""


class WrongModel(Exception):
    """The server does not answer what its manifest says it should."""


class Question(NamedTuple):
    """What is asked, and what tells whether its answer is right."""

    operation: Operation
    check: Check


@dataclass(frozen=True, eq=False)
class Answers:
    """Images and texts with the right answers to them; `probabilities` [images, C] are as `Classify` has them."""

    images: Sequence[bytes]
    texts: Sequence[str]
    image_features: References
    text_features: References
    label_set: str | None = None
    probabilities: FloatArray | None = None

    def embed_images(self, rows: Sequence[int]) -> Question:
        """The vectors of these images."""
        return Question(EmbedImages([self.images[row] for row in rows]), self.image_features.check(rows))

    def embed_texts(self, columns: Sequence[int], spelled: Sequence[str] | None = None) -> Question:
        """The vectors of these texts, in other spellings where they are given."""
        texts = spelled or [self.texts[column] for column in columns]
        return Question(EmbedTexts(texts), self.text_features.check(columns))

    def compare(
        self,
        rows: Sequence[int],
        columns: Sequence[int],
        spelled: Sequence[str] | None = None,
        kind: type[Compare] = Compare,
    ) -> Question:
        """The cosines of images with texts, which follow from the vectors of each."""
        images, texts = [self.images[row] for row in rows], spelled or [self.texts[column] for column in columns]
        cosines = self.image_features.features[list(rows)] @ self.text_features.features[list(columns)].T
        return Question(kind(images, texts), check_scores(cosines))

    def classify(
        self, rows: Sequence[int], columns: Sequence[int] = (), spelled: Sequence[str] | None = None
    ) -> Question:
        """The probabilities of the stored label set; where there is none, the cosines of labels that come along."""
        if self.label_set is None or self.probabilities is None:
            return self.compare(rows, columns, spelled, ClassifyTexts)
        operation = Classify([self.images[row] for row in rows], self.label_set, ALL_LABELS)
        return Question(operation, check_scores(self.probabilities[list(rows)]))

    def about_images(self, per_request: int = 1) -> list[Question]:
        """Requests to embed all images, so many at a time."""
        return [self.embed_images(rows) for rows in windows(len(self.images), per_request)]

    def about_both(self, per_request: int = 1) -> list[Question]:
        """Requests to compare images, so many at a time, with all texts."""
        return [self.compare(rows, range(len(self.texts))) for rows in windows(len(self.images), per_request)]

    def about_new_texts(self, per_request: int = 1) -> Iterator[Question]:
        """Requests without end to embed texts that no response cache knows, so many at a time.

        Each gets white space at its end that was never sent: other bytes, the same tokens once it is cleaned, and so
        the same vector.
        """
        numbers = itertools.count(time.time_ns())  # new to another run against the same server, too
        for columns in itertools.cycle(windows(len(self.texts), per_request)):
            yield self.embed_texts(columns, [respelled(self.texts[column], next(numbers)) for column in columns])


def learn(
    images: Sequence[bytes],
    texts: Sequence[str] = (),
    label_set: str | None = None,
    probe: Mapping[str, str] | None = None,
) -> Steps[Answers]:
    """Ask for the probe, then for every item alone.

    Raises WrongModel where the probe is answered wrongly, ValueError for answers that are no vectors. Manifests of
    older exports have no probe (None): then nothing can be checked.
    """
    for name, (operation, check) in probe_questions(probe).items():
        if fault := check((yield operation)):
            raise WrongModel(f"{name} of the probe: {fault}")
    image_rows = yield from _each(EmbedImages([image]) for image in images)
    stored = (Classify([image], label_set, ALL_LABELS) for image in images if label_set is not None)
    probabilities = yield from _each(stored)
    text_rows = yield from _each(EmbedTexts([text]) for text in texts)
    known = None if label_set is None else probabilities
    return Answers(images, texts, References(image_rows), References(text_rows), label_set, known)


def ask(client: BlockingClient, steps: Steps[Learned]) -> Learned:
    """Answer the steps with a client that waits; raises its RequestProblems."""
    try:
        operation = next(steps)
        while True:
            operation = steps.send(client.send(client.prepare(operation), PATIENCE))
    except StopIteration as done:
        learned: Learned = done.value
        return learned


async def ask_async(client: AsyncClient, steps: Steps[Learned]) -> Learned:
    """The same over asyncio."""
    try:
        operation = next(steps)
        while True:
            operation = steps.send(await client.send(client.prepare(operation), PATIENCE))
    except StopIteration as done:
        learned: Learned = done.value
        return learned


def probe_questions(probe: Mapping[str, str] | None) -> dict[str, Question]:
    """What the probe asks, by the name of its features."""
    if probe is None:
        return {}
    operations: dict[str, Operation] = {
        "image_features": EmbedImages([base64.b64decode(probe["image"])]),
        "text_features": EmbedTexts([probe["text"]]),
    }
    found = {}
    for name, operation in operations.items():
        right = np.frombuffer(base64.b64decode(probe[name]), dtype="<f2").astype(np.float32)
        found[name] = Question(operation, References((right / np.linalg.norm(right))[None]).check([0]))
    return found


def windows(count: int, size: int) -> list[list[int]]:
    """Indices for requests of `size` items: one request begins at each item, and goes round after the last one.

    No two are the same, all have the same size, and a request may hold more items than there are.
    """
    return [[(start + offset) % count for offset in range(size)] for start in range(count)]


def _each(operations: Iterable[Operation]) -> Generator[Operation, FloatArray, FloatArray]:
    """The answers, one after the other: a row each."""
    rows = [np.zeros((0, 0), np.float32)]
    for operation in operations:
        rows.append((yield operation))
    return np.concatenate(rows[1:] or rows)
