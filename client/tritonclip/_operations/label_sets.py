"""Labels from a stored label set.

    images ── classify_NAME ──> the best labels by name, probabilities of all

Triton's own classification extension gives the names of the best; probabilities are over the whole set.
"""

import math
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
    wanted.check(manifest, label_set.labels)
    count = min(wanted.top_k or label_set.labels, label_set.labels)
    infer = partial(_infer_classes, session, manifest, label_set, count)
    collector = yield from fan_out(session, IMAGE, source, infer, on_error, progress)
    return Classifications(tuple(wanted.apply(row or ()) for row in collector.rows()), collector.errors)


def _infer_classes(
    session: Session, manifest: Manifest, label_set: LabelSet, count: int, part: list[Entry]
) -> Operation[Answer]:
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
