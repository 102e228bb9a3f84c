"""Embedding any number of items: embed_image or embed_text, in chunks."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from tritonclip._checks import check_features, fault_errors
from tritonclip._chunks import spread
from tritonclip._effects import Steps
from tritonclip._encoding import IMAGE, TEXT, Kind
from tritonclip._errors import ProtocolError, TritonClipError
from tritonclip._results import Embeddings
from tritonclip._session import Session
from tritonclip._status import known_manifest
from tritonclip._stream import Answer, Entry, Source
from tritonclip._tokens import long_texts
from tritonclip._truncation import check_policy, too_long, warn_of_cuts
from tritonclip.protocol.messages import FloatArray, InferRequest, Tensor


class Features(NamedTuple):
    """Features [N, D], the errors of rows that are NaN, and how many tokens the texts have that were cut."""

    rows: FloatArray
    errors: dict[int, TritonClipError]
    tokens: Mapping[int, int]


def embed_images(session: Session, source: Source, on_error: str, progress: bool) -> Steps[Embeddings]:
    """Embed all images of a source."""
    yield from known_manifest(session)
    features = yield from embed(session, IMAGE, source, on_error, progress)
    return Embeddings(features.rows, features.errors)


def embed_texts(
    session: Session, source: Source, on_error: str, on_truncation: str, progress: bool
) -> Steps[Embeddings]:
    """Embed all texts of a source."""
    check_policy(on_truncation)
    yield from known_manifest(session)
    features = yield from embed(session, TEXT, source, on_error, progress, on_truncation)
    warn_of_cuts("text", features.tokens, session.context_length)
    return Embeddings(features.rows, features.errors, tuple(sorted(features.tokens)))


def embed(
    session: Session, kind: Kind, source: Source, on_error: str, progress: bool, on_truncation: str = "allow"
) -> Steps[Features]:
    """Embed all items of a source; whether texts are cut is looked at unless that is allowed anyway."""
    infer = partial(_infer, session, kind, on_truncation)
    collector = yield from spread(session, kind, source, infer, on_error, progress)
    return Features(collector.features(session.embedding_width or 0), collector.errors, collector.tokens)


def _infer(session: Session, kind: Kind, on_truncation: str, part: list[Entry]) -> Steps[Answer]:
    errors: dict[int, TritonClipError] = {}
    tokens: dict[int, int] = {}
    if kind is TEXT and on_truncation != "allow":
        tokens = yield from long_texts(session, part)
    if on_truncation == "raise" and tokens:
        limit = session.context_length
        errors = {position: too_long(kind.noun, position, count, limit) for position, count in tokens.items()}
        part, tokens = [entry for entry in part if entry[0] not in errors], {}
        if not part:
            return Answer(([], []), errors)
    positions = [position for position, _ in part]
    features = yield from _features(session, kind, [payload for _, payload in part])
    try:
        faults = check_features(kind.model, features, len(part), session.embedding_width)
    except ProtocolError:
        session.forget_manifest()  # it may be that of a model which was replaced; the next call asks anew
        raise
    errors |= fault_errors(kind.model, kind.noun, faults, positions)
    good = [row for row in range(len(part)) if row not in faults]
    block = ([positions[row] for row in good], features[good])
    return Answer(block, errors, {position: count for position, count in tokens.items() if position not in errors})


def _features(session: Session, kind: Kind, payloads: list[bytes]) -> Steps[FloatArray]:
    request = InferRequest(kind.model, (Tensor.from_items(kind.noun, payloads),), (kind.features,))
    response = yield from session.infer(request)
    return response[kind.features].array()
