"""Which labels of an image a caller wants to have."""

from collections.abc import Iterable
from dataclasses import dataclass

from tritonclip._errors import ConfigError
from tritonclip._manifest import LabelSet
from tritonclip._results import Prediction

Predictions = tuple[Prediction, ...]


@dataclass(frozen=True)
class LabelFilter:
    """The best ``top_k`` labels, and of these the ones that reach both limits."""

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

    def check_set(self, label_set: LabelSet) -> None:
        """Refuse a limit on what the predictions of a stored label set do not have, or that says nothing."""
        self.check(label_set.compares_labels())
        if label_set.kind == "trained" and self.min_cosine is not None:
            proposed = "" if label_set.threshold is None else f", such as {label_set.threshold:g}, which it proposes"
            raise ConfigError(
                f"min_cosine: the label set {label_set.name!r} was trained, and its predictions have no cosine; give a "
                f"threshold, the least probability{proposed}"
            )

    def check(self, compared: bool) -> None:
        """Refuse a limit on probabilities that say nothing, as ``Manifest.compares_labels`` finds."""
        if self.threshold is not None and not compared:
            raise ConfigError(
                "threshold is a probability relative to other labels, and there is one label alone: give several, or "
                "min_cosine, which judges a label by itself"
            )

    def apply(self, predictions: Iterable[Prediction]) -> Predictions:
        """The predictions that reach the limits."""
        return tuple(
            best
            for best in predictions
            if (self.threshold is None or (best.probability is not None and best.probability >= self.threshold))
            and (self.min_cosine is None or (best.cosine is not None and best.cosine >= self.min_cosine))
        )
