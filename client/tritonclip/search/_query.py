"""What is looked for, as one vector: a sentence, an image, both, less others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE, TEXT, ImageInput
from tritonclip._core.session import Session
from tritonclip._errors import ConfigError, InputError
from tritonclip._operations.embed import embed_images, embed_texts
from tritonclip.protocol.messages import FloatArray


@dataclass(frozen=True)
class Weights:
    """How much each part of a query counts. What is looked for less of counts half, or it would be all that counts."""

    text: float = 1.0
    image: float = 1.0
    minus: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise ConfigError(f"the weight of {name} must be a number, 0 or more, not {value!r}")


def mix(
    weights: Weights,
    text: FloatArray | None = None,
    image: FloatArray | None = None,
    minus: FloatArray | Sequence[FloatArray] = (),
) -> FloatArray:
    """The unit vector [D] of a query: weighted vectors [D] of a text and of an image, less the mean of ``minus``.

    Each part has length 1 before it is weighted, so that weights compare.
    """
    parts = [(weights.text, text), (weights.image, image)]
    if len(minus):
        parts.append((-weights.minus, np.mean(np.asarray(minus, np.float32), axis=0)))
    given = [weight * _unit(vector) for weight, vector in parts if vector is not None]
    if not given:
        raise ConfigError("a query needs a text, an image or a vector")
    total = np.sum(given, axis=0, dtype=np.float32)
    if not np.linalg.norm(total) > 1e-6:
        raise InputError("its parts cancel each other out: nothing is left to look for", noun="query")
    return _unit(total)


def check_vector(vector: object, width: int) -> FloatArray:
    """A vector that a caller gave, with length 1; InputError where it is none of the index's width."""
    try:
        array = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        raise InputError("not a list of numbers", noun="vector") from None
    if array.shape != (width,):
        raise InputError(f"its shape is {list(array.shape)}, the index's vectors are [{width}]", noun="vector")
    if not (np.isfinite(array).all() and array.any()):
        raise InputError("it has values that are no numbers, or nothing but zeros", noun="vector")
    return _unit(array)


def embed_query(
    session: Session,
    text: str | None,
    image: ImageInput | None,
    minus: Sequence[str],
    weights: Weights,
    on_truncation: str,
) -> Operation[FloatArray]:
    """The vector of a query whose parts are embedded by the server."""
    texts = [*([] if text is None else [text]), *minus]
    rows: FloatArray = np.empty((0, 0), np.float32)
    if texts:
        rows = (yield from embed_texts(session, TEXT.source(texts), "raise", on_truncation, progress=False)).features
    picture: FloatArray | None = None
    if image is not None:
        picture = (yield from embed_images(session, IMAGE.source([image]), "raise", progress=False)).features[0]
    return mix(weights, None if text is None else rows[0], picture, rows[len(texts) - len(minus) :] if minus else ())


def _unit(vector: FloatArray) -> FloatArray:
    array = np.asarray(vector, np.float32)
    return np.asarray(array / np.linalg.norm(array), np.float32)
