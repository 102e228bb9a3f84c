"""What the client's methods return: small frozen dataclasses around NumPy arrays."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tritonclip import _defaults
from tritonclip._errors import ConfigError, ProtocolError, TritonClipError
from tritonclip._messages import FloatArray, ModelStatistics

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors, one for each item, in the caller's order.

    ``features`` is [N, D] float32, each row of length 1; the rows of failed items are NaN. ``errors`` has the error of
    each of those, by position; it is empty unless ``on_error="return"`` was given.
    """

    features: FloatArray
    errors: dict[int, TritonClipError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every image against every text: three arrays [B, N] float32.

    ``cosine`` is in -1..1, ``logits`` are the cosines at the model's own scale (and bias), and ``probabilities`` are
    over the texts. The rows of failed images are NaN, and ``errors`` says why, by position.
    """

    cosine: FloatArray
    logits: FloatArray
    probabilities: FloatArray
    errors: dict[int, TritonClipError] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """A label and how well it fits an image.

    ``index`` is the label's position, from 0, in its label set or among the labels given: names may repeat.
    """

    label: str
    probability: float
    cosine: float
    logit: float
    index: int | None = None


@dataclass(frozen=True)
class Classifications:
    """For each image its predictions, best first.

    Those of a failed image are empty, and ``errors`` says why. Those of any other image are empty where none reaches
    the ``threshold`` that was given: none of these labels.
    """

    predictions: tuple[tuple[Prediction, ...], ...]
    errors: dict[int, TritonClipError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: int) -> tuple[Prediction, ...]:
        return self.predictions[index]

    def __iter__(self) -> Iterator[tuple[Prediction, ...]]:
        return iter(self.predictions)


@dataclass(frozen=True)
class LabelSet:
    """A stored zero-shot classifier: how many labels it has, and the templates they were put into.

    ``names`` are the labels in the order of their indices; empty where the server does not say them.
    """

    name: str
    labels: int
    templates: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.labels:
            raise ValueError(f"label set {self.name!r} has {self.labels} labels and {len(self.names)} names")


@dataclass(frozen=True)
class Manifest:
    """What the server says about the model it serves; ``raw`` has everything, None stands for what it does not say.

    Vectors of servers with the same ``fingerprint`` may be mixed; with different ones they may not.
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

    def calibrate(self, cosine: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logits and probabilities of cosines [..., N] with N texts, as the server's ``similarity`` makes them.

        Probabilities are a softmax over the texts or, for a model with a bias, a sigmoid of each.
        """
        scale, bias = self._calibration()
        logits = cosine * np.float32(scale) + np.float32(bias or 0.0)
        if bias is not None:
            return logits, 1 / (1 + np.exp(-logits))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return logits, weights / weights.sum(axis=-1, keepdims=True)

    def cosine_of(self, logit: float) -> float:
        """The cosine behind a logit."""
        scale, bias = self._calibration()
        return (logit - (bias or 0.0)) / scale

    def _calibration(self) -> tuple[float, float | None]:
        if self.logit_scale is None:
            raise ProtocolError("manifest: no logit_scale, without which cosines cannot be turned into probabilities")
        return self.logit_scale, self.logit_bias

    @classmethod
    def from_document(cls, document: object) -> "Manifest":
        """Read the manifest's JSON document; raises ProtocolError where it is not one."""
        if not isinstance(document, dict):
            raise ProtocolError(f"manifest: expected a JSON object, got {type(document).__name__}")
        get = document.get
        try:
            return cls(
                variant=_optional(str, get("variant")),
                architecture=_optional(str, get("architecture")),
                pretrained=_optional(str, get("pretrained")),
                random_weights=bool(get("random_weights", False)),
                precision=_optional(str, get("precision")),
                image_size=_optional(int, get("image_size")),
                embedding_width=_optional(int, get("embedding_width")),
                context_length=_optional(int, get("context_length")),
                logit_scale=_optional(float, get("logit_scale")),
                logit_bias=_optional(float, get("logit_bias")),
                fingerprint=_optional(str, get("fingerprint")),
                max_batch_size=max(1, int(get("max_batch_size") or _defaults.MAX_BATCH_SIZE)),
                label_sets={
                    name: LabelSet(
                        name, int(entry["labels"]), tuple(entry["templates"]), tuple(entry.get("names") or ())
                    )
                    for name, entry in (get("label_sets") or {}).items()
                },
                raw=document,
            )
        except (TypeError, ValueError, KeyError, AttributeError) as exc:
            raise ProtocolError(f"manifest: {exc}") from exc

    def label_set(self, name: str) -> LabelSet:
        """The stored label set of this name; raises ConfigError where the server has none."""
        found = self.label_sets.get(name)
        if found is None:
            listed = ", ".join(self.label_sets) or "none; publish one with `python -m export labels`"
            raise ConfigError(f"the server has no label set {name!r}; it has {listed}")
        return found


@dataclass(frozen=True)
class Status:
    """A server at one moment.

    ``models`` says of each model that the client knows whether it is ready. ``statistics`` is None where they could not
    be had; ``statistics_note`` then says why. ``manifest`` is None where the server has none.
    """

    url: str
    server_name: str
    server_version: str
    models: dict[str, bool]
    manifest: Manifest | None
    statistics: tuple[ModelStatistics, ...] | None
    statistics_note: str | None = None

    @property
    def ready(self) -> bool:
        """Whether every model that the client knows is ready."""
        return all(self.models.values())


def _optional(kind: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else kind(value)
