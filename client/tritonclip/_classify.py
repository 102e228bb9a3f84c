"""Labels for images, from a stored label set or from labels given with the call.

    label set   images ── classify_NAME ──> the best labels by name, probabilities of all
    labels      images ── embed_image ──> features ─┐
                prompts ─ embed_text ──> features ──┴──> scores, here (label features are kept for the next call)

Kept label features belong to a fingerprint. Every call asks the server for its own first, so features of a model that
was replaced meanwhile are never used.
"""

from functools import partial
from typing import Any

import numpy as np

from tritonclip._chunks import spread
from tritonclip._effects import Steps, Take
from tritonclip._embed import embed
from tritonclip._encoding import IMAGE, TEXT
from tritonclip._errors import ConfigError, InputError, ProtocolError
from tritonclip._messages import FloatArray, InferRequest, Tensor
from tritonclip._results import Classifications, LabelSet, Manifest, Prediction
from tritonclip._session import Session
from tritonclip._status import current_manifest
from tritonclip._stream import Source


def classify(
    session: Session,
    images: Any,
    labels: Any,
    label_set: str | None,
    *,
    template: str,
    top_k: int | None,
    threshold: float | None,
    on_error: str,
    progress: bool,
) -> Steps[Classifications]:
    """Find the labels that fit each image, best first."""
    if (labels is None) == (label_set is None):
        raise ConfigError("give either labels or a label_set")
    if "{}" not in template:
        raise ConfigError(f"template {template!r} has no {{}} where the label should go")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is a probability from 0 to 1, not {threshold}")
    manifest = yield from current_manifest(session)
    source = IMAGE.source(images)
    if label_set is not None:
        found = yield from _by_label_set(session, manifest, source, label_set, top_k, on_error, progress)
    else:
        found = yield from _by_labels(session, manifest, source, labels, template, top_k, on_error, progress)
    if threshold is None:
        return found
    kept = (tuple(best for best in row if best.probability >= threshold) for row in found)
    return Classifications(tuple(kept), found.errors)


def _by_label_set(
    session: Session,
    manifest: Manifest,
    source: Source,
    name: str,
    top_k: int | None,
    on_error: str,
    progress: bool,
) -> Steps[Classifications]:
    label_set = manifest.label_set(name)
    count = min(top_k or label_set.labels, label_set.labels)
    infer = partial(_infer_classes, session, manifest, label_set, count)
    collector = yield from spread(session, IMAGE, source, infer, on_error, progress)
    return Classifications(tuple(row or () for row in collector.rows()), collector.errors)


def _infer_classes(
    session: Session, manifest: Manifest, label_set: LabelSet, count: int, payloads: list[bytes]
) -> Steps[list[Any]]:
    """The predictions of each image: names and logits of the best from Triton's classification extension.

    Its texts have six decimals, enough for a logit. Probabilities come as the tensor: those of a thousand labels are
    small numbers.
    """
    model = f"classify_{label_set.name}"
    inputs = (Tensor.from_items("image", payloads),)
    response = yield from session.infer(InferRequest(model, inputs, ("logits", "probabilities"), {"logits": count}))
    classes, probabilities = response["logits"], response["probabilities"].array()
    texts = classes.items()
    if classes.shape != (len(payloads), count) or probabilities.shape != (len(payloads), label_set.labels):
        raise ProtocolError(
            f"{model}: {list(classes.shape)} classes and {list(probabilities.shape)} probabilities for "
            f"{len(payloads)} images and {label_set.labels} labels"
        )
    rows = (texts[start : start + count] for start in range(0, len(texts), count))
    return [
        tuple(_named_prediction(model, text, manifest, row) for text in best)
        for best, row in zip(rows, probabilities, strict=True)
    ]


def _named_prediction(model: str, text: bytes, manifest: Manifest, probabilities: FloatArray) -> Prediction:
    """A prediction from ``LOGIT:INDEX:LABEL``; the label may hold colons."""
    try:
        logit, index, label = text.decode().split(":", 2)
        cosine = manifest.cosine_of(float(logit))
        return Prediction(label, float(probabilities[int(index)]), cosine, float(logit), int(index))
    except (ValueError, IndexError) as exc:
        raise ProtocolError(f"{model}: not a class of its label set: {text!r}") from exc


def _by_labels(
    session: Session,
    manifest: Manifest,
    source: Source,
    labels: Any,
    template: str,
    top_k: int | None,
    on_error: str,
    progress: bool,
) -> Steps[Classifications]:
    names: list[Any] = yield Take(TEXT.source(labels), None)
    if not names:
        raise InputError("no labels: give at least one")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"expected str, got {type(name).__name__}", noun="label", index=index)
    label_features = yield from _label_features(session, manifest, [template.replace("{}", name) for name in names])
    embeddings = yield from embed(session, IMAGE, source, on_error, progress)
    cosines = embeddings.features @ label_features.T
    logits, probabilities = manifest.calibrate(cosines)
    predictions = tuple(
        () if row in embeddings.errors else _best(cosines[row], logits[row], probabilities[row], names, top_k)
        for row in range(len(cosines))
    )
    return Classifications(predictions, embeddings.errors)


def _label_features(session: Session, manifest: Manifest, prompts: list[str]) -> Steps[FloatArray]:
    """The prompts' features [N, D], from an earlier call where the server is still the same model."""
    key = (manifest.fingerprint, *prompts)
    known = session.known.label_features.get(key)
    if known is not None:
        return known
    embeddings = yield from embed(session, TEXT, Source(prompts), "raise", False)
    if manifest.fingerprint is not None:
        session.remember_labels(key, embeddings.features)
    return embeddings.features


def _best(
    cosines: FloatArray, logits: FloatArray, probabilities: FloatArray, labels: list[str], top_k: int | None
) -> tuple[Prediction, ...]:
    # By logit: it has the order of the probabilities, and still tells labels apart where those round to 0.
    order = np.argsort(-logits, kind="stable")[:top_k]
    return tuple(
        Prediction(labels[i], float(probabilities[i]), float(cosines[i]), float(logits[i]), int(i)) for i in order
    )
