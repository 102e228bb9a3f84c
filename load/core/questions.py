"""What a run asks, with the right answers: the server's own, one item at a time, before any load.

Whether those are right is known from the manifest's probe, whose vectors are eager open_clip's: `check_probe` first.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from load.core.checks import Check, References, check_scores
from load.core.clients_asyncio import Prepared, Target
from load.core.inputs import respelled
from load.core.operations import Classify, Compare, EmbedImages, EmbedTexts, Task
from load.core.probe import WrongModel, probe_questions
from tritonclip._messages import FloatArray

PATIENCE = 60.0  # seconds for an answer to one item on an idle server


@dataclass(frozen=True)
class Question:
    """A prepared request, and what tells whether its answer is right."""

    request: Prepared
    check: Check


async def check_probe(target: Target, probe: Mapping[str, str] | None) -> None:
    """Ask for the image and the sentence that the manifest has the right vectors of; raises WrongModel."""
    for name, (task, check) in probe_questions(probe).items():
        if fault := check(await answers(target, [task])):
            raise WrongModel(f"{name} of the probe: {fault}")


async def answers(target: Target, tasks: Sequence[Task]) -> FloatArray:
    """The answers to tasks of one item each, asked one after the other: a row each."""
    rows = [await target.send(target.prepare(task), PATIENCE) for task in tasks]
    return np.concatenate(rows)


async def about_images(target: Target, images: Sequence[bytes], per_request: int = 1) -> list[Question]:
    """Requests to embed all images, so many at a time."""
    references = References(await answers(target, [EmbedImages([image]) for image in images]))
    return [
        Question(target.prepare(EmbedImages([images[i] for i in indices])), references.check(indices))
        for indices in windows(len(images), per_request)
    ]


async def text_references(target: Target, texts: Sequence[str]) -> References:
    """The right vectors of texts."""
    return References(await answers(target, [EmbedTexts([text]) for text in texts]))


async def about_texts(target: Target, texts: Sequence[str], per_request: int = 1) -> list[Question]:
    """Requests to embed all texts, so many at a time. The server's response cache knows single ones from now on."""
    references = await text_references(target, texts)
    return [
        Question(target.prepare(EmbedTexts([texts[i] for i in indices])), references.check(indices))
        for indices in windows(len(texts), per_request)
    ]


def never_sent(
    target: Target, texts: Sequence[str], references: References, per_request: int = 1
) -> Iterator[Question]:
    """Requests without end to embed texts that no response cache knows, so many at a time.

    Each text gets white space at its end that was never sent: other bytes, but the same tokens once it is cleaned, and
    so the same vector. `references` are of the texts as they are.
    """
    numbers = itertools.count(time.time_ns())  # of another run against the same server, too
    for indices in itertools.cycle(windows(len(texts), per_request)):
        batch = [respelled(texts[i], next(numbers)) for i in indices]
        yield Question(target.prepare(EmbedTexts(batch)), references.check(indices))


async def about_both(
    target: Target, images: Sequence[bytes], texts: Sequence[str], per_request: int = 1
) -> list[Question]:
    """Requests to compare images, so many at a time, with all texts. What is right follows from the vectors of each."""
    image_side = References(await answers(target, [EmbedImages([image]) for image in images])).features
    text_side = (await text_references(target, texts)).features
    cosines = image_side @ text_side.T
    return [
        Question(target.prepare(Compare([images[i] for i in indices], texts)), check_scores(cosines[indices]))
        for indices in windows(len(images), per_request)
    ]


async def about_labels(
    target: Target, images: Sequence[bytes], label_set: str, labels: int, per_request: int = 1
) -> list[Question]:
    """Requests to classify images, so many at a time, by a stored label set of so many labels."""
    right = await answers(target, [Classify([image], label_set, labels) for image in images])
    return [
        Question(
            target.prepare(Classify([images[i] for i in indices], label_set, labels)), check_scores(right[indices])
        )
        for indices in windows(len(images), per_request)
    ]


def windows(count: int, size: int) -> list[list[int]]:
    """Indices for requests of `size` items: one request begins at each item, and goes round after the last one.

    No two are the same, all have the same size, and a request may hold more items than there are.
    """
    return [[(start + offset) % count for offset in range(size)] for start in range(count)]
