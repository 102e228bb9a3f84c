"""Images against texts.

    few of both   ── compare ──────────────────────────────────────────> scores [B, N]
    more          ── embed_image, embed_text, in chunks ── similarity ─> scores [B, N]

The second way is also taken when ``compare`` refuses a request: embedding finds out which item is at fault.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonclip import _defaults
from tritonclip._core.chunks import REFUSED, encode_items, stops_at_error
from tritonclip._core.effects import Operation, Take
from tritonclip._core.modality import IMAGE, TEXT
from tritonclip._core.session import Session
from tritonclip._core.stream import Chunk, Encoded, Source
from tritonclip._errors import InputError, TritonClipError
from tritonclip._manifest import Manifest
from tritonclip._operations.checks import check_scores, fault_errors
from tritonclip._operations.embed import Features, embed
from tritonclip._operations.status import known_manifest
from tritonclip._operations.truncation import check_policy, long_texts, too_long, warn_of_cuts
from tritonclip._results import Comparison
from tritonclip.protocol.messages import FloatArray, InferRequest, Tensor

SCORES = ("cosine", "logits", "probabilities")
Scores = dict[str, FloatArray]
Errors = dict[int, TritonClipError]
Tokens = Mapping[int, int]


def compare(
    session: Session, images: Any, texts: Any, on_error: str, on_truncation: str, progress: bool
) -> Operation[Comparison]:
    """Compare each image with each text."""
    check_policy(on_truncation)
    stop_at_error = stops_at_error(on_error)
    manifest = yield from known_manifest(session)
    sentences = yield from _read_texts(texts)
    source = IMAGE.source(images)
    scores, errors, tokens = yield from _scores(session, source, sentences, on_error, on_truncation, progress)
    if errors and stop_at_error:
        raise errors[min(errors)]
    warn_of_cuts("text", tokens, manifest.context_length)
    return _comparison(manifest, scores, errors, tokens)


def _read_texts(texts: Any) -> Operation[list[Encoded]]:
    items: list[Any] = yield Take(TEXT.source(texts), None)
    if not items:
        raise InputError("no texts: give at least one to compare with")
    encoded = yield from encode_items(TEXT, Chunk(0, items))
    for text in encoded:
        if text.error is not None:
            raise text.error  # the texts are the question; without one, every answer would mean something else
    return encoded


def _scores(
    session: Session, source: Source, sentences: list[Encoded], on_error: str, on_truncation: str, progress: bool
) -> Operation[tuple[Scores, Errors, Tokens]]:
    limit = session.max_batch_size
    head: list[Any] = yield Take(source, limit + 1)
    if not head:
        return _blank(0, len(sentences)), {}, {}
    if max(len(head), len(sentences)) <= limit:
        head = yield from encode_items(IMAGE, Chunk(0, head))
        if _can_go_together(head + sentences):
            try:
                return (yield from _compare_at_once(session, head, sentences, on_truncation))
            except REFUSED:
                pass  # embedding them finds the item at fault
    source.put_back(head)
    text_side = yield from embed(session, TEXT, Source(sentences), "raise", False, on_truncation)
    image_side = yield from embed(session, IMAGE, source, on_error, progress)
    scores, errors = yield from _score(session, image_side, text_side.rows)
    return scores, errors, text_side.tokens


def _can_go_together(items: list[Encoded]) -> bool:
    return (
        all(item.error is None for item in items)
        and sum(len(item.payload) for item in items) <= _defaults.MAX_REQUEST_BYTES
    )


def _compare_at_once(
    session: Session, images: list[Encoded], texts: list[Encoded], on_truncation: str
) -> Operation[tuple[Scores, Errors, Tokens]]:
    tokens: dict[int, int] = {}
    if on_truncation != "allow":
        tokens = yield from long_texts(session, [(position, text.payload) for position, text in enumerate(texts)])
    if on_truncation == "raise" and tokens:
        position = min(tokens)
        raise too_long("text", position, tokens[position], session.context_length)
    inputs = (
        Tensor.from_items("image", [image.payload for image in images]),
        Tensor.from_items("text", [text.payload for text in texts]),
    )
    scores, errors = yield from _ask(session, "compare", inputs, list(range(len(images))), len(texts))
    return scores, errors, tokens


def _score(session: Session, images: Features, texts: FloatArray) -> Operation[tuple[Scores, Errors]]:
    """Scores from features, in as many requests as keep each answer under the size limit (one, mostly)."""
    count = len(texts)
    scores, errors = _blank(len(images.rows), count), dict(images.errors)
    text_features = Tensor.from_array("text_features", texts)
    good = np.array([row for row in range(len(images.rows)) if row not in images.errors], dtype=np.intp)
    step = max(1, _defaults.MAX_REQUEST_BYTES // (4 * (len(SCORES) * count + images.rows.shape[1])))
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        inputs = (Tensor.from_array("image_features", images.rows[rows]), text_features)
        part, faults = yield from _ask(session, "similarity", inputs, rows.tolist(), count)
        errors |= faults
        for name in SCORES:
            scores[name][rows] = part[name]
    return scores, dict(sorted(errors.items()))


def _ask(
    session: Session, model: str, inputs: tuple[Tensor, ...], positions: list[int], texts: int
) -> Operation[tuple[Scores, Errors]]:
    """The scores of images at these positions; rows at fault are NaN, and have an error."""
    response = yield from session.infer(InferRequest(model, inputs, SCORES))
    scores = {name: response[name].array() for name in SCORES}
    faults = check_scores(model, scores, (len(positions), texts))
    for values in scores.values():
        values[list(faults)] = np.nan
    return scores, fault_errors(model, IMAGE.noun, faults, positions)


def _comparison(manifest: Manifest, scores: Scores, errors: Errors, tokens: Tokens) -> Comparison:
    if not manifest.compares_labels(scores["probabilities"].shape[1]):
        scores["probabilities"][:] = np.nan
    return Comparison(**scores, errors=errors, truncated=tuple(sorted(tokens)), activation=manifest.activation)


def _blank(rows: int, columns: int) -> Scores:
    return {name: np.full((rows, columns), np.nan, dtype=np.float32) for name in SCORES}
