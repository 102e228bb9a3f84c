"""Classification of a whole data set by a label set that is stored on the server.

LabelledImages ── those not in the journal ──> batches, several at a time ──classify_NAME──> the best five
    ──> the journal, batch by batch ──> accuracy over all of them
"""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._errors import ConfigError, ProtocolError, TritonClipError
from tritonclip._manifest import LabelSet, Manifest
from tritonclip._results import Classifications, Prediction
from tritonclip.evaluation._accuracy import TOP, Answer, ClassScore, Confusion, class_scores, top_k, worst_confusions
from tritonclip.evaluation._batches import in_batches
from tritonclip.evaluation._journal import Journal
from tritonclip.evaluation._labelled import LabelledImage
from tritonclip.evaluation._proportion import Proportion


@dataclass(frozen=True)
class ClassificationResult:
    """What a data set's images were taken for.

    ``answers`` has an entry for each scored image, in the data set's order, ``failures`` the error of each other one by
    its name: those count as neither right nor wrong. ``resumed`` images came from the journal; the others took
    ``seconds``, failures included.
    """

    manifest: Manifest
    label_set: LabelSet
    answers: tuple[Answer, ...]
    failures: dict[str, TritonClipError]
    resumed: int
    seconds: float

    @property
    def images_per_second(self) -> float | None:
        """Images that the server answered in this run, a second; None where it answered none."""
        answered = len(self.answers) - self.resumed
        return answered / self.seconds if answered else None

    def top(self, k: int) -> Proportion:
        """The share of scored images whose label is among the best k (5 at most); ValueError where none was scored."""
        return top_k(self.answers, k)

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """Each class that has scored images, the worst first."""
        return class_scores(self.answers)

    @property
    def confusions(self) -> tuple[Confusion, ...]:
        """The pairs of classes that are confused most often."""
        return worst_confusions(self.answers)


def evaluate_classification(
    client: Client,
    images: Sequence[LabelledImage],
    label_set: str,
    *,
    resume: Path | None = None,
    concurrency: int = _defaults.CONCURRENCY,
    progress: bool = False,
) -> ClassificationResult:
    """Classify each image by the server's ``label_set``, and compare with its label.

    With ``resume`` every answer is kept in that file as it comes, and images that it has already are not sent again; a
    file of another model, label set or data set raises ConfigError. An image that cannot be read, or whose request
    failed, is in ``failures``. ``concurrency`` requests are in flight, and ``progress`` shows a bar.

    Raises ProtocolError where the server's model changes during the run, and what ``Client.classify`` raises.
    """
    manifest = client.manifest()
    stored = manifest.label_set(label_set)
    failures: dict[str, TritonClipError] = {}

    def classify(batch: Sequence[LabelledImage]) -> Classifications:
        paths = [image.path for image in batch]
        return client.classify(paths, label_set=stored.name, top_k=min(TOP, stored.labels), on_error="return")

    started = time.perf_counter()
    with Journal(resume, _identity(manifest, stored, images, resume)) as journal:
        resumed = sum(image.name in journal.finished for image in images)
        waiting = [image for image in images if image.name not in journal.finished]
        with (
            closing(tqdm(total=len(images), initial=resumed, unit="image", disable=not progress)) as bar,
            closing(in_batches(waiting, _defaults.IMAGES_PER_REQUEST, concurrency, classify)) as answered,
        ):
            for batch, found in answered:
                _check_unchanged(manifest, client.manifest(), stored)
                failures |= {batch[position].name: error for position, error in found.errors.items()}
                journal.add({image.name: _indices(row) for image, row in zip(batch, found, strict=True) if row})
                bar.update(len(batch))
    answers = tuple((image.label, journal.finished[image.name]) for image in images if image.name in journal.finished)
    failures = {
        image.name: failures[image.name] for image in images if image.name in failures
    }  # they came in any order
    return ClassificationResult(manifest, stored, answers, failures, resumed, time.perf_counter() - started)


def _check_unchanged(manifest: Manifest, now: Manifest, label_set: LabelSet) -> None:
    """Refuse to go on where the server answers by another model, or another edition of the label set."""
    if now.fingerprint != manifest.fingerprint:
        raise ProtocolError(
            f"the server's model changed during the run: fingerprint {manifest.fingerprint}, now {now.fingerprint}"
        )
    if now.label_sets.get(label_set.name) != label_set:
        raise ProtocolError(f"the label set {label_set.name} was replaced on the server during the run")


def _identity(
    manifest: Manifest, label_set: LabelSet, images: Sequence[LabelledImage], resume: Path | None
) -> dict[str, object]:
    """What must be the same for answers to belong together."""
    if resume is not None and manifest.fingerprint is None:
        raise ConfigError("the server does not say its fingerprint, so nothing can be resumed")
    return {
        "fingerprint": manifest.fingerprint,
        "label_set": label_set.name,
        "labels_sha256": _digest([label_set.names, label_set.templates]),
        **({} if label_set.edition is None else {"edition": label_set.edition}),
        "data_sha256": _digest(sorted((image.name, image.label) for image in images)),
    }


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def _indices(predictions: Sequence[Prediction]) -> tuple[int, ...]:
    # Predictions of a label set always have their index.
    return tuple(prediction.index for prediction in predictions if prediction.index is not None)
