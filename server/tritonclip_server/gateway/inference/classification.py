"""Labels for items: those that a request names (free ones), or a set that is stored with the model.

free labels    items and prompts ─> vectors ─label_scores─> cosines ─best_labels─> Labelled
a stored set   images ─stored_labels─> the engine's own classification ──────────> Labelled
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tritonclip import Manifest, Prediction, ProtocolError
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.content.items import Item, TextItem, param_of
from tritonclip_server.gateway.content.labels import refuse_equal
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.gather import gather_or_cancel
from tritonclip_server.gateway.inference.embedding import Errors, Vectors, error_of
from tritonclip_server.gateway.inference.engine import Inference
from tritonclip_server.gateway.inference.scores import calibrated, cosines

SCORES_AT_ONCE = 4096  # asked of a stored label set in one call: its answer is read on the event loop
MOST_COSINE = 1.01  # of a stored label: its logit may come from 16-bit arithmetic


@dataclass(frozen=True, slots=True)
class Label:
    """A label and how well it fits an image.

    The probability is None where it would be relative to nothing, the cosine in a label set that was trained.
    """

    label: str
    probability: float | None
    cosine: float | None
    logit: float
    index: int | None


@dataclass(frozen=True)
class Labelled:
    """Labels of each image, best first; `errors` says which images have none, and why."""

    predictions: Sequence[Sequence[Label]]
    errors: Mapping[int, ApiError] = field(default_factory=dict)
    tokens: int = 0  # of all labels that were texts
    truncated: Sequence[int] = ()  # labels of which the model did not read the end


@dataclass(frozen=True, eq=False)
class LabelScores:
    """How well each label fits each item: cosines [B, N], NaN in the rows of items that failed."""

    cosines: FloatArray
    errors: Errors
    tokens: int  # of all texts
    images: int
    truncated: Sequence[int]  # labels of which the model did not read the end


def label_scores(manifest: Manifest, vectors: Vectors, labels: Sequence[TextItem]) -> LabelScores:
    """The scores of labels, whose vectors are the last ones.

    ApiError where one failed, or two are the same and would share one probability.
    """
    items = len(vectors.features) - len(labels)
    vectors.require(items)
    truncated = [position - items for position in vectors.truncated if position >= items]
    if manifest.activation == "softmax":
        refuse_equal(labels, vectors.features[items:], truncated)
    return LabelScores(cosines(vectors, items), vectors.errors, vectors.tokens, vectors.images, truncated)


def best_labels(
    manifest: Manifest, cosine: FloatArray, labels: Sequence[TextItem], top_k: int | None
) -> list[list[Label]]:
    """The labels of each row of cosines [B, N], best first."""
    logits, probabilities = calibrated(manifest, cosine)
    # By logit: it has the order of the probabilities, and still tells labels apart where those round to 0.
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    return [
        [
            Label(
                labels[i].text,
                None if math.isnan(probabilities[row, i]) else float(probabilities[row, i]),
                float(cosine[row, i]),
                float(logits[row, i]),
                int(i),
            )
            for i in best
        ]
        for row, best in enumerate(order)
    ]


async def stored_labels(
    engine: Inference, manifest: Manifest, images: Mapping[int, bytes], items: Sequence[Item], name: str, count: int
) -> Labelled:
    """The best so many labels of a stored label set for images by position; an image that fails is an error."""
    answers: dict[int, Sequence[Prediction]] = {}
    errors: dict[int, ApiError] = {}

    async def ask(positions: Sequence[int]) -> None:
        found = await engine.classify([images[p] for p in positions], label_set=name, top_k=count, on_error="return")
        if len(found) != len(positions):
            raise ProtocolError(f"classify_{name}: labels of {len(found)} images for {len(positions)}")
        for index, error in found.errors.items():
            errors[positions[index]] = error_of(error, param_of(items[positions[index]]))
        answers.update(zip(positions, found, strict=True))

    kind = manifest.label_sets[name].kind
    step = max(1, SCORES_AT_ONCE // count)
    positions = list(images)
    await gather_or_cancel(*(ask(positions[start : start + step]) for start in range(0, len(positions), step)))

    def labels_of(position: int) -> list[Label]:
        return [_of_stored(label, kind, name) for label in answers[position]] if position not in errors else []

    predictions = await asyncio.to_thread(lambda: [labels_of(p) if p in answers else [] for p in range(len(items))])
    return Labelled(predictions, errors)


def joined(parts: Sequence[Labelled]) -> Labelled:
    """The labels of images that follow one another, as those of one request."""
    predictions: list[Sequence[Label]] = []
    errors: dict[int, ApiError] = {}
    for part in parts:
        errors |= {len(predictions) + position: error for position, error in sorted(part.errors.items())}
        predictions += part.predictions
    return Labelled(predictions, errors)


def _of_stored(label: Prediction, kind: str, name: str) -> Label:
    """A label of a stored set; ProtocolError where its numbers are none."""
    right = label.cosine is None if kind == "trained" else label.cosine is not None and abs(label.cosine) <= MOST_COSINE
    if not (right and (label.probability is None or 0 <= label.probability <= 1)):
        raise ProtocolError(f"classify_{name}: {label} cannot be the scores of a label")
    return Label(label.label, label.probability, label.cosine, label.logit, label.index)
