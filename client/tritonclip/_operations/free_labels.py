"""Labels that come with a call: what they may be, the features of the prompts made of them, and the scores.

    images ── embed_image ──> features ─┐
    prompts ─ embed_text ──> features ──┴──> scores, here (label features are kept for the next call)

Kept label features belong to a fingerprint. Every call asks the server for its own first, so features of a model that
was replaced meanwhile are never used.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tritonclip._core.effects import Operation, Take
from tritonclip._core.modality import IMAGE, TEXT
from tritonclip._core.session import LabelFeatures, Session
from tritonclip._core.stream import Source
from tritonclip._errors import ConfigError, InputError
from tritonclip._manifest import Manifest
from tritonclip._operations.embed import Features, embed
from tritonclip._operations.label_filter import LabelFilter, Predictions
from tritonclip._operations.truncation import surely_fits, too_long, warn_of_cuts
from tritonclip._results import Classifications, Prediction
from tritonclip.labels import equal_rows, first_duplicate
from tritonclip.protocol.messages import FloatArray

_SEPARATORS = ",;|\n"


def classify_by_free_labels(
    session: Session,
    manifest: Manifest,
    source: Source,
    labels: Any,
    template: str,
    wanted: LabelFilter,
    on_error: str,
    on_truncation: str,
    progress: bool,
) -> Operation[Classifications]:
    """Find the labels given that fit each image, by the sentences that the template makes of them."""
    names = yield from _read_labels(manifest, labels)
    wanted.check(manifest.compares_labels(len(names)))
    prompts = [template.replace("{}", name) for name in names]
    texts = yield from _label_features(session, manifest, prompts, on_truncation)
    found = yield from embed(session, IMAGE, source, on_error, progress)
    predictions = _predictions(manifest, found, names, texts.rows, wanted)
    cut = {} if on_truncation == "allow" else texts.tokens or {}
    warn_of_cuts("label", cut, manifest.context_length)
    return Classifications(predictions, found.errors, tuple(sorted(cut)), manifest.activation)


def _read_labels(manifest: Manifest, labels: Any) -> Operation[list[str]]:
    """The labels as a list: strings, and where they share a probability no two of them the same to the model."""
    if isinstance(labels, str):
        _check_single(labels)
    names: list[Any] = yield Take(TEXT.source(labels), None)
    if not names:
        raise InputError("no labels: give at least one")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"expected str, got {type(name).__name__}", noun="label", index=index)
    if manifest.activation == "softmax" and (pair := first_duplicate(names, manifest)) is not None:
        raise _duplicate(*pair, names[pair[1]])
    return names


def _duplicate(first: int, index: int, label: str) -> InputError:
    """Two labels that are one to the model would share a probability, and each look half as likely as it is."""
    return InputError(f"the same as label {first} to the model: {label!r}", noun="label", index=index)


def _check_single(labels: str) -> None:
    """One string is one label; one that looks like several would be a single certain and meaningless label."""
    label = labels.strip()
    if (label.startswith("[") and label.endswith("]")) or any(separator in label for separator in _SEPARATORS):
        raise ConfigError(
            f"labels: {labels[:80]!r} is one string, and looks like several labels: give a list of strings, "
            "also where it is really one"
        )


def _label_features(
    session: Session, manifest: Manifest, prompts: list[str], on_truncation: str
) -> Operation[LabelFeatures]:
    """The prompts' features [N, D], from an earlier call where the server is still the same model."""
    key = (manifest.fingerprint, *prompts)
    features = session.known.label_features.get(key)
    if features is None or (features.tokens is None and on_truncation != "allow"):
        features = yield from _embed_prompts(session, prompts, on_truncation)
        if manifest.activation == "softmax":
            _check_different(features, prompts, manifest.context_length)
        if manifest.fingerprint is not None:
            session.remember_labels(key, features)
    if on_truncation == "raise" and features.tokens:
        index = min(features.tokens)
        raise too_long("label", index, features.tokens[index], manifest.context_length)
    return features


def _embed_prompts(session: Session, prompts: list[str], on_truncation: str) -> Operation[LabelFeatures]:
    # Where cutting is an error, the prompts are counted all the same as for a warning: the features are kept for calls
    # that take it otherwise.
    looked_at = on_truncation != "allow"
    try:
        found = yield from embed(session, TEXT, Source(prompts), "raise", False, "warn" if looked_at else "allow")
    except InputError as exc:
        raise InputError(exc.reason, noun="label", index=exc.index) from exc
    return LabelFeatures(found.rows, found.tokens if looked_at else None)


def _check_different(features: LabelFeatures, prompts: list[str], limit: int | None) -> None:
    """Refuse labels whose tokens are the same once the tokenizer has repaired them: HTML entities, forms of Unicode.

    Labels that were both cut differ in what the model did not read; those are for ``on_truncation``.
    """

    def may_be_cut(index: int) -> bool:
        if features.tokens is not None:
            return index in features.tokens
        return limit is not None and not surely_fits(prompts[index].encode(), limit)

    for first, second in equal_rows(features.rows):
        if not (may_be_cut(first) and may_be_cut(second)):
            raise _duplicate(first, second, prompts[second])


def _predictions(
    manifest: Manifest, images: Features, names: list[str], label_rows: FloatArray, wanted: LabelFilter
) -> tuple[Predictions, ...]:
    cosines = images.rows @ label_rows.T
    logits, probabilities = manifest.calibrate(cosines)
    compared = manifest.compares_labels(len(names))

    def best(row: int) -> Iterable[Prediction]:
        # By logit: it has the order of the probabilities, and still tells labels apart where those round to 0.
        for i in np.argsort(-logits[row], kind="stable")[: wanted.top_k]:
            probability = float(probabilities[row, i]) if compared else None
            yield Prediction(names[i], probability, float(cosines[row, i]), float(logits[row, i]), int(i))

    return tuple(() if row in images.errors else wanted.apply(best(row)) for row in range(len(cosines)))
