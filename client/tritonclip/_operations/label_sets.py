"""Labels from a stored label set.

    images ── classify_NAME ──> the best labels by name, probabilities of all

Triton's own classification extension gives the names of the best; probabilities are over the whole set. The logits of a
set that was trained come from no cosine.
"""

import math
from dataclasses import replace
from functools import partial

from tritonclip._core.chunks import fan_out
from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE
from tritonclip._core.session import Session
from tritonclip._core.stream import Answer, Entry, Source
from tritonclip._errors import ProtocolError
from tritonclip._manifest import LabelSet, Manifest
from tritonclip._operations.checks import TOLERANCE, Faults, fault_errors
from tritonclip._operations.label_filter import LabelFilter
from tritonclip._results import Classifications, Prediction
from tritonclip.protocol.messages import FloatArray, InferRequest, Tensor


def classify_by_label_set(
    session: Session, manifest: Manifest, source: Source, name: str, wanted: LabelFilter, on_error: str, progress: bool
) -> Operation[Classifications]:
    """Find the best labels of each image in a label set of the server's."""
    label_set = manifest.label_set(name)
    wanted.check_set(label_set)
    infer = partial(_infer_classes, session, manifest, label_set, wanted.top_k)
    collector = yield from fan_out(session, IMAGE, source, infer, on_error, progress)
    predictions = tuple(wanted.apply(row or ()) for row in collector.rows())
    return Classifications(predictions, collector.errors, activation=label_set.activation)


def _infer_classes(
    session: Session, manifest: Manifest, label_set: LabelSet, top_k: int | None, part: list[Entry]
) -> Operation[Answer]:
    """The predictions of each image, best first, at most ``top_k`` of them."""
    classes, probabilities = yield from _ask(session, label_set, top_k, part)
    labels = probabilities.shape[-1]
    if manifest.revision is not None and labels != label_set.labels:
        # Another edition took its place since the manifest was read. It answers for itself, names and all.
        label_set = replace(label_set, labels=labels, names=())
        classes, probabilities = yield from _ask(session, label_set, top_k, part)
    count = _count(label_set, top_k)
    if classes.shape != (len(part), count) or probabilities.shape != (len(part), label_set.labels):
        raise ProtocolError(
            f"classify_{label_set.name}: {list(classes.shape)} classes and {list(probabilities.shape)} probabilities "
            f"for {len(part)} images and {label_set.labels} labels"
        )
    texts = classes.items()
    positions, rows, faults = [position for position, _ in part], [], Faults()
    for row, values in enumerate(probabilities):
        best = texts[row * count : (row + 1) * count]
        try:
            rows.append(tuple(_named_prediction(text, manifest, label_set, values) for text in best))
        except ValueError as exc:
            faults[row] = str(exc)
    good = [position for row, position in enumerate(positions) if row not in faults]
    return Answer((good, rows), fault_errors(f"classify_{label_set.name}", IMAGE.noun, faults, positions))


def _ask(
    session: Session, label_set: LabelSet, top_k: int | None, part: list[Entry]
) -> Operation[tuple[Tensor, FloatArray]]:
    """Names and logits of the best from Triton's classification extension, and the probabilities of all labels.

    The extension's texts have six decimals, enough for a logit. Probabilities come as the tensor: those of a thousand
    labels are small numbers.
    """
    inputs = (Tensor.from_items("image", [payload for _, payload in part]),)
    classes = {"logits": _count(label_set, top_k)}
    request = InferRequest(f"classify_{label_set.name}", inputs, ("logits", "probabilities"), classes)
    response = yield from session.infer(request)
    return response["logits"], response["probabilities"].array()


def _count(label_set: LabelSet, top_k: int | None) -> int:
    return min(top_k or label_set.labels, label_set.labels)


def _named_prediction(text: bytes, manifest: Manifest, label_set: LabelSet, probabilities: FloatArray) -> Prediction:
    """A prediction from ``LOGIT:INDEX:LABEL``; the label may hold colons. ValueError for one that cannot be true."""
    try:
        value, number, label = text.decode().split(":", 2)
        logit, index = float(value), int(number)
    except ValueError:
        raise ValueError(f"not a class of its label set: {text!r}") from None
    if not 0 <= index < len(probabilities):
        raise ValueError(f"not a class of its label set: {text!r}")
    probability = float(probabilities[index])
    cosine = None if label_set.kind == "trained" else manifest.cosine_of(logit)
    # Written so that NaN, which is in no interval, fails too.
    possible = cosine is None or abs(cosine) <= 1 + TOLERANCE
    if not (math.isfinite(logit) and -TOLERANCE <= probability <= 1 + TOLERANCE and possible):
        raise ValueError(f"logit {logit:g} and probability {probability:g} of label {index} cannot be")
    return Prediction(label, probability if label_set.compares_labels() else None, cosine, logit, index)
