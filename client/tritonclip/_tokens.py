"""How many tokens texts have, by the server's own tokeniser."""

from functools import partial
from typing import Final

from tritonclip._chunks import spread
from tritonclip._effects import Steps
from tritonclip._encoding import TEXT
from tritonclip._errors import ProtocolError
from tritonclip._session import Session
from tritonclip._stream import Answer, Entry, Source
from tritonclip.protocol.messages import InferRequest, Tensor

START_AND_END: Final = 2
# Cleaning (ftfy's NFC, HTML entities, lower case) makes of a text's bytes three times as many at most: U+1D15E, a
# note, becomes three signs. In ASCII only entities grow, and those have an ampersand.
LARGEST_GROWTH: Final = 3


def count_tokens(session: Session, source: Source) -> Steps[list[int]]:
    """Count the tokens of all texts of a source."""
    collector = yield from spread(session, TEXT, source, partial(_infer, session), "raise", False)
    return collector.rows()


def long_texts(session: Session, texts: list[Entry]) -> Steps[dict[int, int]]:
    """Those texts that the model reads only in part: how many tokens they have, by position.

    Only texts that may be so are sent to be counted. None is where the server does not say what its model reads.
    """
    limit = session.context_length
    if limit is None:
        return {}
    doubtful = [(position, payload) for position, payload in texts if not surely_fits(payload, limit)]
    if not doubtful:
        return {}
    counts = yield from _count(session, [payload for _, payload in doubtful])
    return {position: count for (position, _), count in zip(doubtful, counts, strict=True) if count > limit}


def surely_fits(text: bytes, context_length: int) -> bool:
    """Whether a text has so few bytes that its tokens, of a byte each at least, must fit."""
    growth = 1 if text.isascii() and b"&" not in text else LARGEST_GROWTH
    return growth * len(text) + START_AND_END <= context_length


def _infer(session: Session, part: list[Entry]) -> Steps[Answer]:
    counts = yield from _count(session, [payload for _, payload in part])
    return Answer(([position for position, _ in part], counts))


def _count(session: Session, texts: list[bytes]) -> Steps[list[int]]:
    request = InferRequest("text_tokenize", (Tensor.from_items("text", texts),), ("token_count",))
    response = yield from session.infer(request)
    counts = response["token_count"].integers()
    if counts.shape != (len(texts), 1) or (counts < 1).any():
        raise ProtocolError(f"text_tokenize: not the token counts of {len(texts)} texts: {counts.tolist()!r:.200}")
    return [int(count) for count in counts[:, 0]]
