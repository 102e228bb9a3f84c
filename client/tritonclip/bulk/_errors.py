"""What can go wrong with a data set, beside what can go wrong with any call."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from tritonclip._errors import TritonClipError


class ShardError(TritonClipError):
    """A shard of the input cannot be read; the others can."""


class OutputError(TritonClipError):
    """The output cannot be written or read: a full disk, no permission, no network. What is there is whole."""


@contextmanager
def storing(doing: str) -> Iterator[None]:
    """Have what the output's file system raises come out as an OutputError that says what was being done."""
    try:
        yield
    except (OSError, pa.ArrowException) as exc:
        raise OutputError(f"{doing}: {first_line(exc)}") from exc


def first_line(error: BaseException) -> str:
    """An error in a line."""
    return (str(error) or type(error).__name__).splitlines()[0]
