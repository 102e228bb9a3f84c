"""Images against texts.

    few of both   ── compare ──────────────────────────────────────────> scores [B, N]
    more          ── embed_image, embed_text, in chunks ── similarity ─> scores [B, N]

The second way is also taken when ``compare`` refuses a request: embedding finds out which image is at fault.
"""

from typing import Any

import numpy as np

from tritonclip import _defaults
from tritonclip._chunks import REFUSED, encode_items, stops_at_error
from tritonclip._effects import Steps, Take
from tritonclip._embed import embed
from tritonclip._encoding import IMAGE, TEXT
from tritonclip._errors import InputError, ProtocolError
from tritonclip._messages import FloatArray, InferRequest, Tensor
from tritonclip._results import Comparison, Embeddings
from tritonclip._session import Session
from tritonclip._stream import Chunk, Encoded, Source

SCORES = ("cosine", "logits", "probabilities")
Scores = tuple[FloatArray, FloatArray, FloatArray]


def compare(session: Session, images: Any, texts: Any, on_error: str, progress: bool) -> Steps[Comparison]:
    """Compare each image with each text."""
    stops_at_error(on_error)
    sentences = yield from _read_texts(texts)
    limit = session.max_batch_size
    source = IMAGE.source(images)
    head: list[Any] = yield Take(source, limit + 1)
    if not head:
        return Comparison(*_blank(0, len(sentences)))
    if max(len(head), len(sentences)) <= limit:
        head = yield from encode_items(IMAGE, Chunk(0, head))
        if _can_go_together(head + sentences):
            try:
                return Comparison(*(yield from _compare_at_once(session, head, sentences)))
            except REFUSED:
                pass  # embedding them finds the item at fault
    source.put_back(head)
    image_side = yield from embed(session, IMAGE, source, on_error, progress)
    text_side = yield from embed(session, TEXT, Source(sentences), "raise", False)
    return (yield from _score(session, image_side, text_side))


def _read_texts(texts: Any) -> Steps[list[Encoded]]:
    items: list[Any] = yield Take(TEXT.source(texts), None)
    if not items:
        raise InputError("no texts: give at least one to compare with")
    encoded = yield from encode_items(TEXT, Chunk(0, items))
    for text in encoded:
        if text.error is not None:
            raise text.error  # the texts are the question; without one, every answer would mean something else
    return encoded


def _can_go_together(items: list[Encoded]) -> bool:
    return (
        all(item.error is None for item in items)
        and sum(len(item.payload) for item in items) <= _defaults.MAX_REQUEST_BYTES
    )


def _compare_at_once(session: Session, images: list[Encoded], texts: list[Encoded]) -> Steps[Scores]:
    inputs = (
        Tensor.from_items("image", [image.payload for image in images]),
        Tensor.from_items("text", [text.payload for text in texts]),
    )
    return (yield from _scores(session, InferRequest("compare", inputs, SCORES), (len(images), len(texts))))


def _score(session: Session, images: Embeddings, texts: Embeddings) -> Steps[Comparison]:
    """Scores from features, in as many requests as keep each answer under the size limit (one, mostly)."""
    count = len(texts)
    scores = _blank(len(images), count)
    text_features = Tensor.from_array("text_features", texts.features)
    good = np.array([row for row in range(len(images)) if row not in images.errors], dtype=np.intp)
    step = max(1, _defaults.MAX_REQUEST_BYTES // (4 * (len(SCORES) * count + images.features.shape[1])))
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        inputs = (Tensor.from_array("image_features", images.features[rows]), text_features)
        part = yield from _scores(session, InferRequest("similarity", inputs, SCORES), (len(rows), count))
        for whole, values in zip(scores, part, strict=True):
            whole[rows] = values
    return Comparison(*scores, images.errors)


def _scores(session: Session, request: InferRequest, shape: tuple[int, int]) -> Steps[Scores]:
    response = yield from session.infer(request)
    cosine, logits, probabilities = (response[name].array() for name in SCORES)
    for name, array in zip(SCORES, (cosine, logits, probabilities), strict=True):
        if array.shape != shape:
            raise ProtocolError(f"{request.model}: {name} of shape {list(array.shape)}, expected {list(shape)}")
    return cosine, logits, probabilities


def _blank(rows: int, columns: int) -> Scores:
    blank = np.full((3, rows, columns), np.nan, dtype=np.float32)
    return blank[0], blank[1], blank[2]
