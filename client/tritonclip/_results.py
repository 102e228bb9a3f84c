"""What the client's methods return: small frozen dataclasses around NumPy arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tritonclip._errors import TritonClipError
from tritonclip._manifest import Activation, Manifest
from tritonclip.protocol.messages import FloatArray, ModelStatistics


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors, one for each item, in the caller's order.

    ``features`` is [N, D] float32, each row of length 1; the rows of failed items are NaN. ``errors`` has the error of
    each of those, by position; it is empty unless ``on_error="return"`` was given. ``truncated`` has the positions of
    texts that were cut to what the model reads; it is empty with ``on_truncation="allow"``, which does not look.
    """

    features: FloatArray
    errors: dict[int, TritonClipError] = field(default_factory=dict)
    truncated: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every image against every text: three arrays [B, N] float32.

    ``cosine`` is in -1..1, ``logits`` are the cosines at the model's own scale (and bias), and ``activation`` says
    what the ``probabilities`` are:

    - ``"softmax"``: relative to the other texts, over which they sum to 1. One is likely only where the others are
      less so. Over one text alone it would be 1.0 whatever the image, so there they are NaN.
    - ``"sigmoid"``, of models with a bias: each text's own, whatever the others are.

    The rows of failed images are NaN, and ``errors`` says why, by position. ``truncated`` has the positions of texts
    that were cut, as in ``Embeddings``.
    """

    cosine: FloatArray
    logits: FloatArray
    probabilities: FloatArray
    errors: dict[int, TritonClipError] = field(default_factory=dict)
    truncated: tuple[int, ...] = ()
    activation: Activation = "softmax"


@dataclass(frozen=True)
class Prediction:
    """A label and how well it fits an image.

    ``probability`` is relative to the other labels or the label's own, as ``Classifications.activation`` says
    (``Comparison`` has more), and None where it would be relative to no other one. ``cosine`` is the label's own, and
    None in a label set that was trained: its logits come from no cosine. ``index`` is the label's position, from 0, in
    its label set or among the labels given: names in a label set may repeat.
    """

    label: str
    probability: float | None
    cosine: float | None
    logit: float
    index: int | None = None


@dataclass(frozen=True)
class Classifications:
    """For each image its predictions, best first.

    Those of a failed image are empty, and ``errors`` says why. Those of any other image are empty where none reaches
    the ``threshold`` or the ``min_cosine`` that was given: none of these labels. ``truncated`` has the positions of
    labels whose prompts were cut, as in ``Embeddings``. ``activation`` says what the probabilities are: ``"softmax"``,
    over the labels of an image, of which one may be right, or ``"sigmoid"``, of each label by itself, of which several
    or none may be.
    """

    predictions: tuple[tuple[Prediction, ...], ...]
    errors: dict[int, TritonClipError] = field(default_factory=dict)
    truncated: tuple[int, ...] = ()
    activation: Activation = "softmax"

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: int) -> tuple[Prediction, ...]:
        return self.predictions[index]

    def __iter__(self) -> Iterator[tuple[Prediction, ...]]:
        return iter(self.predictions)


@dataclass(frozen=True)
class Status:
    """A server at one moment, as far as it concerns the client's own model of those that it carries.

    ``models`` says of each model of Triton's that the client knows whether it is ready. ``statistics`` is None where
    they could not be had; ``statistics_note`` then says why. Both leave out the name that these models go by.
    ``manifest`` is None where the server has none.
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
