"""Embedding any number of items: embed_image or embed_text, in chunks."""

from functools import partial

from tritonclip._chunks import spread
from tritonclip._effects import Steps
from tritonclip._encoding import Kind
from tritonclip._errors import ProtocolError
from tritonclip._messages import FloatArray, InferRequest, Tensor
from tritonclip._results import Embeddings
from tritonclip._session import Session
from tritonclip._stream import Source


def embed(session: Session, kind: Kind, source: Source, on_error: str, progress: bool) -> Steps[Embeddings]:
    """Embed all items of a source."""
    collector = yield from spread(session, kind, source, partial(_infer, session, kind), on_error, progress)
    return Embeddings(collector.features(session.embedding_width), collector.errors)


def _infer(session: Session, kind: Kind, payloads: list[bytes]) -> Steps[FloatArray]:
    request = InferRequest(kind.model, (Tensor.from_items(kind.noun, payloads),), (kind.features,))
    response = yield from session.infer(request)
    features = response[kind.features].array()
    if features.ndim != 2 or len(features) != len(payloads):
        raise ProtocolError(f"{kind.model}: shape {list(features.shape)} for {len(payloads)} items")
    return features
