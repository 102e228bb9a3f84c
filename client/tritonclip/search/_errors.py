"""What can go wrong with an index, beside what can go wrong with any call."""

from collections.abc import Iterator
from contextlib import contextmanager

from tritonclip._errors import ConfigError, TritonClipError


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


def _reason(error: Exception) -> str:
    """The first sentence of what the store says; the rest are places in its source."""
    return (str(error) or type(error).__name__).splitlines()[0].split(", /")[0].strip()
