"""A large JSON document, parsed in pieces: orjson keeps the whole process waiting while it works.

    body ─long strings and lists of ids taken out, a mark in the place of each─> orjson ─> put back

What is long in a request is images in base64, texts and token ids. Each is parsed by itself, and other threads have
their turn in between. Marks begin with characters drawn at random for each document, so none of its own strings is one.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

import orjson

LONG = 2**10  # bytes of a string that is parsed by itself
SLICE = 2**20  # bytes of a longer one that are parsed in one step
_IDS_BYTES = 64  # of a list: shorter ones are parsed with the rest
_IDS = re.compile(rb"\[[0-9,\s]{%d,}\](?!\s*:)" % _IDS_BYTES)  # in the place of a name a list stays, and is an error
_STRING_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:")


def loads(body: bytes) -> Any:
    """What `orjson.loads` gives; where the document is not valid, its error, of which position and words differ."""
    pieces = _Pieces(body)
    return pieces.put_back(orjson.loads(b"".join(pieces.skeleton())))


class _Pieces:
    """The long parts of a document, and the document without them."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._mark = secrets.token_hex(8)
        self._parsed: list[Any] = []

    def skeleton(self) -> Iterator[bytes]:
        """The document with marks in it; parses what is long on the way."""
        body, at = self._body, 0
        while (start := body.find(b'"', at)) >= 0:
            yield self._without_ids(body[at:start])
            at = _after_string(body, start)
            is_long = at - start > LONG and not _COLON.match(body, at)  # the name of a field stays
            yield self._mark_for(_string(memoryview(body)[start:at])) if is_long else body[start:at]
        yield self._without_ids(body[at:])

    def put_back(self, document: Any) -> Any:
        """The parsed skeleton with what was taken out."""
        root = [document]
        containers: list[list[Any] | dict[str, Any]] = [root]
        while containers:
            container = containers.pop()
            # `container[place] = …` is the same for both kinds, and takes nothing away from what is being looped over.
            for place, value in container.items() if isinstance(container, dict) else enumerate(container):
                if isinstance(value, str) and value.startswith(self._mark):
                    container[place] = self._parsed[int(value[len(self._mark) :])]  # type: ignore[index]
                elif isinstance(value, list | dict):
                    containers.append(value)
        return root[0]

    def _without_ids(self, between: bytes) -> bytes:
        """What stands between two strings, without its lists of numbers."""
        return (
            _IDS.sub(lambda found: self._mark_for(orjson.loads(found[0])), between)
            if len(between) > _IDS_BYTES
            else between
        )

    def _mark_for(self, part: Any) -> bytes:
        self._parsed.append(part)
        return b'"%s%d"' % (self._mark.encode(), len(self._parsed) - 1)


def _after_string(body: bytes, start: int) -> int:
    """Where the string ends that begins at a place."""
    end = body.find(b'"', start + 1)
    if end > 0 and body[end - 1] == ord("\\"):
        found = _STRING_END.match(body, start + 1)
        return len(body) if found is None else found.end()
    return len(body) if end < 0 else end + 1


def _string(quoted: memoryview) -> Any:
    """A string in its quotes, parsed in slices. A slice that cuts an escape or a character in two is no string."""
    end = len(quoted) - 1
    if quoted[end] != ord('"'):  # the body is cut off
        return orjson.loads(quoted)
    try:
        slices = (bytes(quoted[at : min(at + SLICE, end)]) for at in range(1, end, SLICE))
        return "".join([orjson.loads(b'"%b"' % piece) for piece in slices])
    except orjson.JSONDecodeError:
        return orjson.loads(quoted)
