"""Embedding any number of items: embed_image or embed_text, in chunks."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from tritonclip._core.chunks import fan_out
from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE, TEXT, Modality
from tritonclip._core.session import Session
from tritonclip._core.stream import Answer, Entry, Source
from tritonclip._errors import ProtocolError, TritonClipError
from tritonclip._operations.checks import check_features, fault_errors
from tritonclip._operations.status import known_manifest
from tritonclip._operations.truncation import check_policy, long_texts, too_long, warn_of_cuts
from tritonclip._results import Embeddings
from tritonclip.protocol.messages import FloatArray, InferRequest, Tensor


class Features(NamedTuple):
    """Features [N, D], the errors of rows that are NaN, and how many tokens the texts have that were cut."""

    rows: FloatArray
    errors: dict[int, TritonClipError]
    tokens: Mapping[int, int]


def embed_images(session: Session, source: Source, on_error: str, progress: bool) -> Operation[Embeddings]:
    """Embed all images of a source."""
    yield from known_manifest(session)
    features = yield from embed(session, IMAGE, source, on_error, progress)
    return Embeddings(features.rows, features.errors)


def embed_texts(
    session: Session, source: Source, on_error: str, on_truncation: str, progress: bool
) -> Operation[Embeddings]:
    """Embed all texts of a source."""
    check_policy(on_truncation)
    yield from known_manifest(session)
    features = yield from embed(session, TEXT, source, on_error, progress, on_truncation)
    warn_of_cuts("text", features.tokens, session.context_length)
    return Embeddings(features.rows, features.errors, tuple(sorted(features.tokens)))


def embed(
    session: Session, modality: Modality, source: Source, on_error: str, progress: bool, on_truncation: str = "allow"
) -> Operation[Features]:
    """Embed all items of a source; whether texts are cut is looked at unless that is allowed anyway."""
    infer = partial(infer_features, session, modality, on_truncation)
    collector = yield from fan_out(session, modality, source, infer, on_error, progress)
    return Features(collector.features(session.embedding_width or 0), collector.errors, collector.tokens)


def infer_features(session: Session, modality: Modality, on_truncation: str, part: list[Entry]) -> Operation[Answer]:
    """One inference: the features of what can be embedded, and the errors of the rest."""
    errors: dict[int, TritonClipError] = {}
    tokens: dict[int, int] = {}
    if modality is TEXT and on_truncation != "allow":
        tokens = yield from long_texts(session, part)
    if on_truncation == "raise" and tokens:
        limit = session.context_length
        errors = {position: too_long(modality.noun, position, count, limit) for position, count in tokens.items()}
        part, tokens = [entry for entry in part if entry[0] not in errors], {}
        if not part:
            return Answer(([], []), errors)
    positions = [position for position, _ in part]
    features = yield from _features(session, modality, [payload for _, payload in part])
    try:
        faults = check_features(modality.model, features, len(part), session.embedding_width)
    except ProtocolError:
        session.forget_manifest()  # it may be that of a model which was replaced; the next call asks anew
        raise
    errors |= fault_errors(modality.model, modality.noun, faults, positions)
    good = [row for row in range(len(part)) if row not in faults]
    block = ([positions[row] for row in good], features[good])
    return Answer(block, errors, {position: count for position, count in tokens.items() if position not in errors})


def _features(session: Session, modality: Modality, payloads: list[bytes]) -> Operation[FloatArray]:
    request = InferRequest(modality.model, (Tensor.from_items(modality.noun, payloads),), (modality.features,))
    response = yield from session.infer(request)
    return response[modality.features].array()
