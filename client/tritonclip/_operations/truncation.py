"""Texts of more tokens than the model reads: they are counted, and then refused, named in a warning, or cut in silence.

The server's own tokeniser counts. A text with so few bytes that it must fit is not sent to it.
"""

import sys
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, get_args

from tritonclip._core.chunks import fan_out
from tritonclip._core.effects import Operation
from tritonclip._core.modality import TEXT
from tritonclip._core.session import Session
from tritonclip._core.stream import Answer, Entry, Source
from tritonclip._errors import ConfigError, InputError, ProtocolError
from tritonclip.protocol.messages import InferRequest, Tensor

OnTruncation = Literal["raise", "warn", "allow"]

LISTED: Final = 5  # texts that one warning names
START_AND_END: Final = 2
# Cleaning (ftfy's NFC, HTML entities, lower case) makes of a text's bytes three times as many at most: U+1D15E, a
# note, becomes three signs. In ASCII only entities grow, and those have an ampersand.
LARGEST_GROWTH: Final = 3


class TruncationWarning(UserWarning):
    """Texts were cut to the number of tokens that the model reads: the end of what they say is not in their vectors."""


def count_tokens(session: Session, source: Source) -> Operation[list[int]]:
    """Count the tokens of all texts of a source."""
    collector = yield from fan_out(session, TEXT, source, partial(_infer, session), "raise", False)
    return collector.rows()


def long_texts(session: Session, texts: list[Entry]) -> Operation[dict[int, int]]:
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


def check_policy(on_truncation: str) -> None:
    """Check an ``on_truncation`` argument."""
    if on_truncation not in get_args(OnTruncation):
        raise ConfigError(f'on_truncation must be "raise", "warn" or "allow", not {on_truncation!r}')


def too_long(noun: str, position: int, tokens: int, limit: int | None) -> InputError:
    """The error of one text."""
    return InputError(f"{tokens} tokens, more than the {limit} that the model reads", noun=noun, index=position)


def warn_of_cuts(noun: str, tokens: Mapping[int, int], limit: int | None) -> None:
    """Say which texts were cut, if any, at the place from where this package was called."""
    if not tokens:
        return
    first = sorted(tokens)[:LISTED]
    named = ", ".join(f"{noun} {position} ({tokens[position]} tokens)" for position in first)
    more = f" and {len(tokens) - LISTED} more" if len(tokens) > LISTED else ""
    message = f"cut to the {limit} tokens that the model reads: {named}{more}"
    warnings.warn(message, TruncationWarning, stacklevel=_levels_to_caller())


def _infer(session: Session, part: list[Entry]) -> Operation[Answer]:
    counts = yield from _count(session, [payload for _, payload in part])
    return Answer(([position for position, _ in part], counts))


def _count(session: Session, texts: list[bytes]) -> Operation[list[int]]:
    request = InferRequest("text_tokenize", (Tensor.from_items("text", texts),), ("token_count",))
    response = yield from session.infer(request)
    counts = response["token_count"].integers()
    if counts.shape != (len(texts), 1) or (counts < 1).any():
        raise ProtocolError(f"text_tokenize: not the token counts of {len(texts)} texts: {counts.tolist()!r:.200}")
    return [int(count) for count in counts[:, 0]]


def _levels_to_caller() -> int:
    """How many frames up the first one lies that is not of this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tritonclip."):
        frame = frame.f_back
        level += 1
    return level
