"""What a server says about the model it serves: manifest.json, checked entry by entry."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from tritonclip import _defaults
from tritonclip._errors import ConfigError, ProtocolError
from tritonclip.protocol.messages import FloatArray

Activation = Literal["softmax", "sigmoid"]
"""What makes probabilities of logits: a softmax over all labels of an image, or a sigmoid of each label by itself."""


@dataclass(frozen=True)
class LabelSet:
    """A stored classifier: how many labels it has, and the templates they were put into.

    ``names`` are the labels in the order of their indices; empty where the server does not say them. A classifier of
    the kind ``"trained"`` has no templates, and its predictions have no cosine; ``threshold`` is the least probability
    that it was found to need, below which an image is rather none of these, and None where it proposes none.
    ``edition`` changes with anything that an answer depends on. ``activation`` is the model's own or, in a set that
    was trained, a softmax.
    """

    name: str
    labels: int
    templates: tuple[str, ...]
    names: tuple[str, ...] = ()
    kind: Literal["zero-shot", "trained"] = "zero-shot"
    threshold: float | None = None
    edition: str | None = None
    activation: Activation = "softmax"

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.labels:
            raise ValueError(f"label set {self.name!r} has {self.labels} labels and {len(self.names)} names")
        if self.kind not in ("zero-shot", "trained"):
            raise ValueError(f"label set {self.name!r} is of a kind that this version does not know: {self.kind!r}")

    def compares_labels(self) -> bool:
        """Whether the probabilities of its labels say anything, as ``Manifest.compares_labels`` has it."""
        return _say_anything(self.activation, self.labels)


@dataclass(frozen=True)
class Manifest:
    """What the server says about the model it serves; ``raw`` has everything, None stands for what it does not say.

    Vectors of servers with the same ``fingerprint`` may be mixed; with different ones they may not. ``revision`` is the
    same as long as nothing here changes, label sets included.
    """

    variant: str | None
    architecture: str | None
    pretrained: str | None
    random_weights: bool
    precision: str | None
    image_size: int | None
    embedding_width: int | None
    context_length: int | None
    logit_scale: float | None
    logit_bias: float | None
    fingerprint: str | None
    max_batch_size: int
    label_sets: Mapping[str, LabelSet]
    raw: Mapping[str, Any] = field(repr=False)
    revision: str | None = None

    @property
    def activation(self) -> Activation:
        """What makes the model's probabilities: a sigmoid of each text where it has a bias, else a softmax over them.

        CLIP was trained to find the right text among others (Radford et al. 2021), SigLIP to judge each pair of an
        image and a text by itself (Zhai et al. 2023).
        """
        return _activation(self.logit_bias)

    def calibrate(self, cosine: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logits and probabilities of cosines [..., N] with N texts, as the server's ``similarity`` makes them."""
        scale, bias = self._calibration()
        logits = cosine * np.float32(scale) + np.float32(bias or 0.0)
        if self.activation == "sigmoid":
            # 1 / (1 + exp(-logits)), in which SigLIP's least logits would overflow
            return logits, np.exp(-np.logaddexp(np.float32(0), -logits))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return logits, weights / weights.sum(axis=-1, keepdims=True)

    def cosine_of(self, logit: float) -> float:
        """The cosine behind a logit of a comparison, or of a zero-shot label set: trained ones have no cosine."""
        scale, bias = self._calibration()
        return (logit - (bias or 0.0)) / scale

    def _calibration(self) -> tuple[float, float | None]:
        if self.logit_scale is None:
            raise ProtocolError("manifest: no logit_scale, without which cosines cannot be turned into probabilities")
        return self.logit_scale, self.logit_bias

    @property
    def lower_cases(self) -> bool:
        """Whether texts that differ in case alone are the same text to the model."""
        return self.raw.get("clean", "lower") in ("lower", "canonicalize")

    def compares_labels(self, count: int) -> bool:
        """Whether the probabilities of so many labels say anything: a softmax over one is always 1.0."""
        return _say_anything(self.activation, count)

    @classmethod
    def from_document(cls, document: object) -> "Manifest":
        """Read the manifest's JSON document; raises ProtocolError where it is not one, naming the entry at fault."""
        if not isinstance(document, dict):
            raise ProtocolError(f"manifest: expected a JSON object, got {type(document).__name__}")
        entries = _Entries(document)
        logit_bias = entries.number("logit_bias")
        return cls(
            variant=entries.text("variant"),
            architecture=entries.text("architecture"),
            pretrained=entries.text("pretrained"),
            random_weights=entries.flag("random_weights"),
            precision=entries.text("precision"),
            image_size=entries.count("image_size"),
            embedding_width=entries.count("embedding_width"),
            context_length=entries.count("context_length"),
            logit_scale=entries.number("logit_scale", positive=True),
            logit_bias=logit_bias,
            fingerprint=entries.text("fingerprint"),
            max_batch_size=entries.count("max_batch_size") or _defaults.MAX_BATCH_SIZE,
            label_sets=entries.label_sets(_activation(logit_bias)),
            raw=document,
            revision=entries.text("revision"),
        )

    def label_set(self, name: str) -> LabelSet:
        """The stored label set of this name; raises ConfigError where the server has none."""
        found = self.label_sets.get(name)
        if found is None:
            listed = ", ".join(self.label_sets) or "none; publish one with `tritonclip-server labels`"
            raise ConfigError(f"the server has no label set {name!r}; it has {listed}")
        return found


def _activation(logit_bias: float | None) -> Activation:
    return "softmax" if logit_bias is None else "sigmoid"


def _say_anything(activation: Activation, count: int) -> bool:
    return count > 1 or activation == "sigmoid"


class _Entries:
    """The entries of a document, by type; None for those that are not there."""

    def __init__(self, document: Mapping[str, Any], where: str = "manifest") -> None:
        self._document = document
        self._where = where

    def text(self, name: str) -> str | None:
        value: str | None = self._entry(name, str, "a string")
        return value

    def flag(self, name: str) -> bool:
        return self._entry(name, bool, "true or false") or False

    def count(self, name: str) -> int | None:
        value: int | None = self._entry(name, int, "a whole number")
        if value is not None and value < 1:
            raise self._wrong(name, "at least 1")
        return value

    def number(self, name: str, *, positive: bool = False) -> float | None:
        value = self._entry(name, int | float, "a number")
        try:
            number = None if value is None else float(value)
        except OverflowError:
            number = math.inf
        if number is not None and not (math.isfinite(number) and (number > 0 or not positive)):
            raise self._wrong(name, "more than 0" if positive else "finite")
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        values: list[Any] = self._entry(name, list, "a list of strings") or []
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of strings")
        return tuple(values)

    def label_sets(self, activation: Activation) -> dict[str, LabelSet]:
        """By name; the activation is that of zero-shot ones."""
        sets: dict[str, Any] = self._entry("label_sets", dict, "an object") or {}
        return {name: self._label_set(name, document, activation) for name, document in sets.items()}

    def _label_set(self, name: str, document: Any, activation: Activation) -> LabelSet:
        where = f"{self._where}: label set {name!r}"
        if not isinstance(document, dict):
            raise ProtocolError(f"{where}: expected an object, got {type(document).__name__}")
        entries = _Entries(document, where)
        labels = entries.count("labels")
        if labels is None:
            raise ProtocolError(f"{where}: it does not say how many labels there are")
        kind = entries.text("kind") or "zero-shot"
        try:
            return LabelSet(
                name,
                labels,
                entries.texts("templates"),
                entries.texts("names"),
                cast(Any, kind),
                entries.number("threshold"),
                entries.text("edition"),
                activation if kind == "zero-shot" else "softmax",
            )
        except ValueError as exc:
            raise ProtocolError(f"manifest: {exc}") from exc

    def _entry(self, name: str, kind: Any, wanted: str) -> Any:
        value = self._document.get(name)
        # bool is a subclass of int, and true is no number.
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise self._wrong(name, wanted)
        return value

    def _wrong(self, name: str, wanted: str) -> ProtocolError:
        return ProtocolError(f"{self._where}: {name}: expected {wanted}, got {reprlib.repr(self._document[name])}")
