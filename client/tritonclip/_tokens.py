"""How many tokens texts have, by the server's own tokeniser."""

from functools import partial

from tritonclip._chunks import spread
from tritonclip._effects import Steps
from tritonclip._encoding import TEXT
from tritonclip._errors import ProtocolError
from tritonclip._messages import InferRequest, Tensor
from tritonclip._session import Session
from tritonclip._stream import Source


def count_tokens(session: Session, source: Source) -> Steps[list[int]]:
    """Count the tokens of all texts of a source."""
    collector = yield from spread(session, TEXT, source, partial(_infer, session), "raise", False)
    return collector.rows()


def _infer(session: Session, payloads: list[bytes]) -> Steps[list[int]]:
    request = InferRequest("text_tokenize", (Tensor.from_items("text", payloads),), ("tokens",))
    response = yield from session.infer(request)
    tokens = response["tokens"].integers()
    if tokens.ndim != 2 or len(tokens) != len(payloads):
        raise ProtocolError(f"text_tokenize: shape {list(tokens.shape)} for {len(payloads)} texts")
    # The end has the highest id, and is where the text encoder reads the features from; padding follows it.
    counts: list[int] = (tokens.argmax(axis=1) + 1).tolist()
    return counts
