"""Labels for images, from a stored label set or from labels given with the call.

    label set   images ── classify_NAME ──> the best labels by name, probabilities of all
    labels      images ── embed_image ──> features ─┐
                prompts ─ embed_text ──> features ──┴──> scores, here (label features are kept for the next call)

A probability is relative to the other labels. Over one label alone a softmax says nothing, so there is none then.

Kept label features belong to a fingerprint. Every call asks the server for its own first, so features of a model that
was replaced meanwhile are never used.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tritonclip._checks import TOLERANCE, Faults, fault_errors
from tritonclip._chunks import spread
from tritonclip._effects import Steps
from tritonclip._embed import Features, embed
from tritonclip._encoding import IMAGE
from tritonclip._errors import ConfigError, ProtocolError
from tritonclip._labels import label_features, read_labels
from tritonclip._manifest import LabelSet, Manifest
from tritonclip._results import Classifications, Prediction
from tritonclip._session import Session
from tritonclip._status import current_manifest
from tritonclip._stream import Answer, Entry, Source
from tritonclip._truncation import check_policy, warn_of_cuts
from tritonclip.protocol.messages import FloatArray, InferRequest, Tensor

Predictions = tuple[Prediction, ...]


@dataclass(frozen=True)
class Wanted:
    """Which labels of an image a caller wants: the best ``top_k``, and those that reach both limits."""

    top_k: int | None = None
    threshold: float | None = None
    min_cosine: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, not {self.top_k}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold is a probability from 0 to 1, not {self.threshold}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ConfigError(f"min_cosine is a cosine from -1 to 1, not {self.min_cosine}")

    def check(self, manifest: Manifest, labels: int) -> None:
        """Refuse a limit on a probability that says nothing."""
        if self.threshold is not None and not manifest.compares_labels(labels):
            raise ConfigError(
                "threshold is a probability relative to other labels, and there is one label alone: give several, or "
                "min_cosine, which judges a label by itself"
            )

    def of(self, predictions: Iterable[Prediction]) -> Predictions:
        """The predictions that reach the limits."""
        return tuple(
            best
            for best in predictions
            if (self.threshold is None or (best.probability is not None and best.probability >= self.threshold))
            and (self.min_cosine is None or best.cosine >= self.min_cosine)
        )


def classify(
    session: Session,
    images: Any,
    labels: Any,
    label_set: str | None,
    *,
    template: str,
    wanted: Wanted,
    on_error: str,
    on_truncation: str,
    progress: bool,
) -> Steps[Classifications]:
    """Find the labels that fit each image, best first."""
    if (labels is None) == (label_set is None):
        raise ConfigError("give either labels or a label_set")
    if "{}" not in template:
        raise ConfigError(f"template {template!r} has no {{}} where the label should go")
    check_policy(on_truncation)
    manifest = yield from current_manifest(session)
    source = IMAGE.source(images)
    if label_set is not None:
        return (yield from _by_label_set(session, manifest, source, label_set, wanted, on_error, progress))
    names = yield from read_labels(manifest, labels)
    wanted.check(manifest, len(names))
    prompts = [template.replace("{}", name) for name in names]
    texts = yield from label_features(session, manifest, prompts, on_truncation)
    found = yield from embed(session, IMAGE, source, on_error, progress)
    predictions = _by_features(manifest, found, names, texts.rows, wanted)
    cut = {} if on_truncation == "allow" else texts.tokens or {}
    warn_of_cuts("label", cut, manifest.context_length)
    return Classifications(predictions, found.errors, tuple(sorted(cut)))


def _by_label_set(
    session: Session, manifest: Manifest, source: Source, name: str, wanted: Wanted, on_error: str, progress: bool
) -> Steps[Classifications]:
    label_set = manifest.label_set(name)
    wanted.check(manifest, label_set.labels)
    count = min(wanted.top_k or label_set.labels, label_set.labels)
    infer = partial(_infer_classes, session, manifest, label_set, count)
    collector = yield from spread(session, IMAGE, source, infer, on_error, progress)
    return Classifications(tuple(wanted.of(row or ()) for row in collector.rows()), collector.errors)


def _infer_classes(
    session: Session, manifest: Manifest, label_set: LabelSet, count: int, part: list[Entry]
) -> Steps[Answer]:
    """The predictions of each image: names and logits of the best from Triton's classification extension.

    Its texts have six decimals, enough for a logit. Probabilities come as the tensor: those of a thousand labels are
    small numbers.
    """
    model = f"classify_{label_set.name}"
    inputs = (Tensor.from_items("image", [payload for _, payload in part]),)
    response = yield from session.infer(InferRequest(model, inputs, ("logits", "probabilities"), {"logits": count}))
    classes, probabilities = response["logits"], response["probabilities"].array()
    texts = classes.items()
    if classes.shape != (len(part), count) or probabilities.shape != (len(part), label_set.labels):
        raise ProtocolError(
            f"{model}: {list(classes.shape)} classes and {list(probabilities.shape)} probabilities for "
            f"{len(part)} images and {label_set.labels} labels"
        )
    positions, rows, faults = [position for position, _ in part], [], Faults()
    for row, values in enumerate(probabilities):
        best = texts[row * count : (row + 1) * count]
        try:
            rows.append(tuple(_named_prediction(text, manifest, values) for text in best))
        except ValueError as exc:
            faults[row] = str(exc)
    good = [position for row, position in enumerate(positions) if row not in faults]
    return Answer((good, rows), fault_errors(model, IMAGE.noun, faults, positions))


def _named_prediction(text: bytes, manifest: Manifest, probabilities: FloatArray) -> Prediction:
    """A prediction from ``LOGIT:INDEX:LABEL``; the label may hold colons. ValueError for one that cannot be true."""
    try:
        value, number, label = text.decode().split(":", 2)
        logit, index = float(value), int(number)
    except ValueError:
        raise ValueError(f"not a class of its label set: {text!r}") from None
    if not 0 <= index < len(probabilities):
        raise ValueError(f"not a class of its label set: {text!r}")
    cosine, probability = manifest.cosine_of(logit), float(probabilities[index])
    # Written so that NaN, which is in no interval, fails too.
    if not (math.isfinite(logit) and -TOLERANCE <= probability <= 1 + TOLERANCE and abs(cosine) <= 1 + TOLERANCE):
        raise ValueError(f"logit {logit:g} and probability {probability:g} of label {index} cannot be")
    compared = manifest.compares_labels(len(probabilities))
    return Prediction(label, probability if compared else None, cosine, logit, index)


def _by_features(
    manifest: Manifest, images: Features, names: list[str], label_rows: FloatArray, wanted: Wanted
) -> tuple[Predictions, ...]:
    cosines = images.rows @ label_rows.T
    logits, probabilities = manifest.calibrate(cosines)
    compared = manifest.compares_labels(len(names))

    def predictions(row: int) -> Iterable[Prediction]:
        # By logit: it has the order of the probabilities, and still tells labels apart where those round to 0.
        for i in np.argsort(-logits[row], kind="stable")[: wanted.top_k]:
            probability = float(probabilities[row, i]) if compared else None
            yield Prediction(names[i], probability, float(cosines[row, i]), float(logits[row, i]), int(i))

    return tuple(() if row in images.errors else wanted.of(predictions(row)) for row in range(len(cosines)))
