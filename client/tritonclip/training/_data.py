"""What a head is trained on: classes, their texts, and images that are told apart from those it is tested on.

labels ── of a file, of a stored label set, or of DATA itself ──> Texts (templates are empty where there are none)
embedded images ──equal digests──> each once ──split──> Samples to train on, Samples to test on
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tritonclip import _defaults
from tritonclip._errors import ConfigError, TritonClipError
from tritonclip._manifest import LabelSet, Manifest
from tritonclip._text_files import split_lines
from tritonclip.evaluation import LabelledImage, find_labels
from tritonclip.evaluation._tables import listed
from tritonclip.protocol.messages import FloatArray
from tritonclip.training._cache import FeatureCache
from tritonclip.training._embedding import Embedded
from tritonclip.training._head import check_labels
from tritonclip.training._regression import IntArray


@dataclass(frozen=True)
class Texts:
    """Labels in the order of their indices, and the templates they are put into; ``source`` says where they are from.

    Without templates the labels are names alone, and nothing is known of them but their images.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        check_labels(self.labels)

    @property
    def label_set(self) -> LabelSet:
        """The labels as data sets are read by."""
        return LabelSet(self.source, len(self.labels), self.templates, self.labels)


@dataclass(frozen=True, eq=False)
class Samples:
    """Images with their features [N, D] and labels [N]."""

    images: tuple[LabelledImage, ...]
    features: FloatArray = field(repr=False)
    labels: IntArray = field(repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: IntArray) -> "Samples":
        """Those at these positions."""
        return Samples(tuple(self.images[row] for row in rows), self.features[rows], self.labels[rows])


def names_of(data: Path) -> Texts:
    """The labels that a data set itself names, without texts."""
    return Texts(find_labels(data), (), str(data))


def texts_of_label_set(manifest: Manifest, name: str) -> Texts:
    """Labels and templates of a label set that is stored on the server; ConfigError where it does not say them."""
    stored = manifest.label_set(name)
    if not (stored.names and stored.templates):
        raise ConfigError(
            f"label set {name!r} has no names or no templates to start from (a trained head has none): give the labels "
            "in a file"
        )
    return Texts(stored.names, stored.templates, name)


def read_texts(labels: Path, templates: Path | None = None) -> Texts:
    """Labels, one on each line of a file, and templates, one on each line of another (else "a photo of a {}")."""
    own = (_defaults.TEMPLATE,) if templates is None else _lines(templates)
    for template in own:
        if template.count("{}") != 1:
            raise ConfigError(f"{templates}: {template!r} does not have exactly one {{}}")
    return Texts(_lines(labels), own, str(labels))


def gather(embedded: Embedded, cache: FeatureCache) -> tuple[Samples, tuple[str, ...]]:
    """The images with their features, each once, and the paths of those left out: the same image in another place.

    Raises ConfigError where the same image has two labels.
    """
    first: dict[bytes, LabelledImage] = {}
    repeated: list[str] = []
    torn: list[str] = []
    for image, digest in zip(embedded.images, embedded.digests, strict=True):
        seen = first.setdefault(digest, image)
        if seen is image:
            continue
        repeated.append(str(image.path))
        if seen.label != image.label:
            torn.append(f"{seen.path} and {image.path}")
    if torn:
        raise ConfigError(f"the same image under two labels, so one of them is wrong: {listed(torn)}")
    images = tuple(first.values())
    labels = np.array([image.label for image in images], np.int64)
    return Samples(images, cache.rows(first), labels), tuple(repeated)


def check_enough(samples: Samples, labels: Sequence[str], failures: Mapping[str, TritonClipError]) -> None:
    """ConfigError where a class has no image, with the first of those that could not be embedded."""
    counts = np.bincount(samples.labels, minlength=len(labels))
    if missing := [label for label, count in zip(labels, counts, strict=True) if not count]:
        failed = [f" ({len(failures)} images failed; {path}: {error})" for path, error in failures.items()][:1]
        raise ConfigError(f"no image of {listed(missing)}: add some, or leave such labels out{''.join(failed)}")


def split(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """Images to train on and images to test on: of each class this share for the test, never its last image.

    Raises ConfigError where that leaves none to test on.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the share to test on is between 0 and 1, not {share!r}")
    generator = np.random.default_rng(seed)
    tested = np.zeros(len(samples), bool)
    for label in np.unique(samples.labels):
        members = generator.permutation(np.flatnonzero(samples.labels == label))
        tested[members[: min(len(members) - 1, round(share * len(members)))]] = True
    if not tested.any():
        raise ConfigError(
            f"too few images: with {len(samples)} of {len(np.unique(samples.labels))} classes a share of {share:g} "
            "leaves none to test on. Add images, or give others to test on with --test"
        )
    return samples.take(np.flatnonzero(~tested)), samples.take(np.flatnonzero(tested))


def without(test: Embedded, train: Embedded) -> tuple[Embedded, tuple[str, ...]]:
    """The images to test on that are not among those to train on, and the paths of those that are."""
    known = set(train.digests)
    kept = [pair for pair in zip(test.images, test.digests, strict=True) if pair[1] not in known]
    common = tuple(str(image.path) for image, digest in zip(test.images, test.digests, strict=True) if digest in known)
    if not test.images:
        raise ConfigError("none of the images to test on could be embedded")
    if not kept:
        raise ConfigError("every image to test on is among those to train on: a test says something of others alone")
    images, digests = zip(*kept, strict=True)
    return Embedded(images, digests, test.failures, test.cached), common


def first_of_each(labels: IntArray, images: int, seed: int) -> IntArray:
    """Positions of so many images of each class, or all where it has fewer; of more images they are a part."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:images] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text") from exc
    lines = tuple(line.strip() for line in split_lines(text) if line.strip())
    if not lines:
        raise ConfigError(f"{path}: no line has any text")
    return lines
