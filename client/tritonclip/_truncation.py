"""What becomes of texts that are longer than what the model reads: an error, a warning, or nothing."""

import sys
import warnings
from collections.abc import Mapping
from typing import Final, Literal, get_args

from tritonclip._errors import ConfigError, InputError

OnTruncation = Literal["raise", "warn", "allow"]

LISTED: Final = 5  # texts that one warning names


class TruncationWarning(UserWarning):
    """Texts were cut to the number of tokens that the model reads: the end of what they say is not in their vectors."""


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


def _levels_to_caller() -> int:
    """How many frames up the first one lies that is not of this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tritonclip."):
        frame = frame.f_back
        level += 1
    return level
