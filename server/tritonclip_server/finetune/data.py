"""Labelled images for fine-tuning: read, looked through once for files that cannot be read, and split.

    DATA ──tritonclip.evaluation──> images with classes ──decoding──> those that can be read
        ──split──> training, validation

Folders and tables are read as `tritonclip evaluate` reads them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tritonclip import LabelSet
from tritonclip.evaluation import LabelledImage, find_labels, read_labelled
from tritonclip_server.export.label_sources import read_labels
from tritonclip_server.finetune.decoding import read_image
from tritonclip_server.finetune.errors import BadData, Unreadable
from tritonclip_server.finetune.processes import Processes

LISTED = 5  # names in one message


@dataclass(frozen=True)
class LabelledSet:
    """Images with the index of each one's class, what the classes are called, and the files that cannot be read."""

    images: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    unreadable: dict[str, str]  # a reason for each path

    @property
    def counts(self) -> list[int]:
        """How many images each class has."""
        found = Counter(image.label for image in self.images)
        return [found[label] for label in range(len(self.classes))]


@dataclass(frozen=True)
class Source:
    """Where labelled images are, and what their classes are called.

    `labels` is a file with a name on each line, or `imagenet`; without it the names are those of the class folders or
    the CSV's labels, sorted. A `class_map` says which name each folder has, as tritonclip.evaluation reads it.
    """

    data: Path
    labels: str | None = None
    class_map: Path | None = None

    def classes(self) -> tuple[str, ...]:
        """The names of the classes. Raises BadLabels and ConfigError."""
        return read_labels(self.labels) if self.labels is not None else find_labels(self.data)


def read_set(source: Source, classes: tuple[str, ...], processes: Processes) -> LabelledSet:
    """Read the images of a source that are of these classes, and no other ones.

    Each of the processes looks through its share of them. Raises BadData where no image can be read, and ConfigError.
    """
    data = source.data
    named = LabelSet(source.labels or data.name, len(classes), (), classes)
    images = read_labelled(data, named, source.class_map).images
    unreadable = processes.merged(_unreadable(images[processes.rank :: processes.count], data, processes))
    readable = tuple(image for image in images if image.name not in unreadable)
    if not readable:
        name, reason = next(iter(unreadable.items()))
        raise BadData(f"{data}: none of {len(images)} images can be read; {name}: {reason}")
    named_by_path = {str(image.path): unreadable[image.name] for image in images if image.name in unreadable}
    return LabelledSet(readable, classes, named_by_path)


def split(data: LabelledSet, share: float, seed: int) -> tuple[LabelledSet, LabelledSet]:
    """A part to learn from and a share to validate on, of every class at least one image each, by the seed.

    Raises BadData for fewer than two classes, and for classes with fewer than two images, naming them.
    """
    if len(data.classes) < 2:
        raise BadData(f"one class, {data.classes[0]!r}: there is nothing to tell it from")
    scarce = [f"{name} ({count})" for name, count in zip(data.classes, data.counts, strict=True) if count < 2]
    if scarce:
        raise BadData(
            "a class needs two readable images, one to learn from and one to validate on; too few are of "
            f"{_some_of(scarce)}"
        )
    rng = np.random.default_rng(seed)
    validation: set[str] = set()
    for label, count in enumerate(data.counts):
        names = [image.name for image in data.images if image.label == label]
        chosen = rng.permutation(count)[: min(count - 1, max(1, round(share * count)))]
        validation.update(names[index] for index in chosen)
    parts = [tuple(i for i in data.images if (i.name in validation) == wanted) for wanted in (False, True)]
    return replace(data, images=parts[0]), replace(data, images=parts[1])


def _some_of(names: Sequence[str]) -> str:
    """Names for a message, the first few where there are many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


class _Reasons(Dataset[str]):
    """Why each image cannot be decoded; empty where it can be."""

    def __init__(self, images: Sequence[LabelledImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> str:
        try:
            read_image(self.images[index].path)
        except Unreadable as error:
            return str(error)
        return ""


def _unreadable(images: Sequence[LabelledImage], data: Path, processes: Processes) -> dict[str, str]:
    """The images that cannot be decoded, with reasons. One pass costs less than a run that ends at the last image."""
    reasons = DataLoader(_Reasons(images), batch_size=None, num_workers=processes.workers)
    shown = None if processes.is_first else True  # by tqdm's `disable`: on a terminal, or never
    bar = tqdm(reasons, total=len(images), desc=f"looking through {data.name}", unit="image", disable=shown)
    return {image.name: reason for image, reason in zip(images, bar, strict=True) if reason}
