"""What can go wrong with an index, beside what can go wrong with any call."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tritonclip._errors import ConfigError, InputError, TritonClipError

REASON_CHARACTERS = 300

_REASONS = (  # what matters of the pages that are said of an object store
    (r"<Message>(.+?)</Message>", r"\1"),
    (r"Failed to get AWS credentials", "it has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    (r"source: BadScheme", "its endpoint is http://, which AWS_ALLOW_HTTP=true allows"),
    (r'message: "(.+?)"', r"\1"),
)


class IndexMissingError(ConfigError):
    """There is no index at this place."""


class IndexMismatchError(ConfigError):
    """The index holds another encoder's vectors; the message names both."""


class IndexLockedError(TritonClipError):
    """Another process writes to the index; the message names it."""


class StorageError(TritonClipError):
    """The store failed: a full disk, no permission, no network. What was committed before is as it was."""


@contextmanager
def storage(doing: str) -> Iterator[None]:
    """Have whatever the store raises come out as a StorageError that says what was being done."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as exc:  # lancedb's own errors are of these kinds
        if isinstance(exc, TritonClipError):
            raise
        raise StorageError(f"{doing}: {_reason(exc)}") from exc


@contextmanager
def filtering(condition: str) -> Iterator[None]:
    """Have what the store raises of a condition come out as an InputError, and that it failed as a StorageError."""
    try:
        yield
    except Exception as exc:  # a panic of its parser is none of its other errors
        if isinstance(exc, OSError | RuntimeError) and "applying filter" not in str(exc):
            raise StorageError(f"the index cannot be read: {_reason(exc)}") from exc
        words = " ".join(str(exc).split()).removeprefix("Invalid input, ").split(", /")[0][:REASON_CHARACTERS]
        raise InputError(f"{condition!r} cannot be used: {words}", noun="filter") from exc


def _reason(error: Exception) -> str:
    """The first sentence of what the store says; the rest are places in its source."""
    said = str(error) or type(error).__name__
    for pattern, reason in _REASONS:
        if found := re.search(pattern, said):
            return found.expand(reason)
    return said.splitlines()[0].split(", /")[0].strip()
