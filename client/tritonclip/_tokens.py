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
    request = InferRequest("text_tokenize", (Tensor.from_items("text", payloads),), ("token_count",))
    response = yield from session.infer(request)
    counts = response["token_count"].integers()
    if counts.shape != (len(payloads), 1):
        raise ProtocolError(f"text_tokenize: shape {list(counts.shape)} for {len(payloads)} texts")
    return [int(count) for count in counts[:, 0]]
