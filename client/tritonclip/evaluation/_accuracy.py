"""Accuracy from labels and predictions, all of them indices of a label set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonclip.evaluation._proportion import Proportion

TOP: Final = 5
"""How many of the best labels are looked at."""

_CONFUSIONS = 20

Answer = tuple[int, tuple[int, ...]]
"""The index of an image's label, and the indices that the server found, best first."""


@dataclass(frozen=True)
class ClassScore:
    """One class: its index, and how many of its images were right at first, and among the best five."""

    label: int
    top1: Proportion
    top5: Proportion


@dataclass(frozen=True)
class Confusion:
    """How many images of class ``label`` were taken for ``predicted``, of all images of that class."""

    label: int
    predicted: int
    images: Proportion


def top_k(answers: Sequence[Answer], k: int) -> Proportion:
    """The share of images whose label is among the first k predictions; ``answers`` are not empty."""
    return Proportion(sum(label in found[:k] for label, found in answers), len(answers))


def class_scores(answers: Sequence[Answer]) -> tuple[ClassScore, ...]:
    """Each class that has images, the worst first."""
    by_label: dict[int, list[Answer]] = {}
    for answer in answers:
        by_label.setdefault(answer[0], []).append(answer)
    scores = [ClassScore(label, top_k(own, 1), top_k(own, TOP)) for label, own in by_label.items()]
    return tuple(sorted(scores, key=lambda score: (score.top1.value, score.top5.value, score.label)))


def worst_confusions(answers: Sequence[Answer]) -> tuple[Confusion, ...]:
    """The pairs of classes that are confused most often, by number of images; twenty at most."""
    sizes = Counter(label for label, _ in answers)
    wrong = Counter((label, found[0]) for label, found in answers if found[0] != label)
    worst = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:_CONFUSIONS]
    return tuple(Confusion(label, predicted, Proportion(count, sizes[label])) for (label, predicted), count in worst)
