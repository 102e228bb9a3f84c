"""Labels that come with a call: what they may be, and the features of the prompts made of them."""

from typing import Any

from tritonclip._effects import Steps, Take
from tritonclip._embed import embed
from tritonclip._encoding import TEXT
from tritonclip._errors import ConfigError, InputError
from tritonclip._manifest import Manifest
from tritonclip._session import LabelFeatures, Session
from tritonclip._stream import Source
from tritonclip._tokens import surely_fits
from tritonclip._truncation import too_long
from tritonclip.labels import equal_rows, first_duplicate

_SEPARATORS = ",;|\n"


def read_labels(manifest: Manifest, labels: Any) -> Steps[list[str]]:
    """The labels as a list: strings, no two of them the same to the model."""
    if isinstance(labels, str):
        _check_single(labels)
    names: list[Any] = yield Take(TEXT.source(labels), None)
    if not names:
        raise InputError("no labels: give at least one")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"expected str, got {type(name).__name__}", noun="label", index=index)
    if (pair := first_duplicate(names, manifest)) is not None:
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


def label_features(
    session: Session, manifest: Manifest, prompts: list[str], on_truncation: str
) -> Steps[LabelFeatures]:
    """The prompts' features [N, D], from an earlier call where the server is still the same model."""
    key = (manifest.fingerprint, *prompts)
    features = session.known.label_features.get(key)
    if features is None or (features.tokens is None and on_truncation != "allow"):
        features = yield from _embed_prompts(session, prompts, on_truncation)
        _check_different(features, prompts, manifest.context_length)
        if manifest.fingerprint is not None:
            session.remember_labels(key, features)
    if on_truncation == "raise" and features.tokens:
        index = min(features.tokens)
        raise too_long("label", index, features.tokens[index], manifest.context_length)
    return features


def _embed_prompts(session: Session, prompts: list[str], on_truncation: str) -> Steps[LabelFeatures]:
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
