"""Boxes, of which JPEG 2000, AVIF and HEIF files are made (ISO 14496-12)."""

from collections.abc import Iterator
from typing import NamedTuple

from image_file import MAX_PARTS, too_many_parts, truncated

_NEEDED = {b"mdat", b"meta", b"moov", b"jp2h", b"jp2c"}


class Box(NamedTuple):
    """A box: `data[start:end]`, its content from `content` on."""

    name: bytes
    start: int
    content: int
    end: int


def walk(data: bytes, position: int, end: int, format_name: str) -> Iterator[Box]:
    """Give the boxes between two positions. Raises InvalidImage for pixels or headers that do not fit."""
    for _ in range(MAX_PARTS):
        if position + 8 > end:
            return
        start, name = position, data[position + 4 : position + 8]
        length, content = int.from_bytes(data[position : position + 4]), position + 8
        if length == 1:
            length, content = int.from_bytes(data[content : content + 8]), content + 8
        elif length == 0:
            length = end - start
        position = start + length
        if position < content or position > end:
            if name not in _NEEDED:
                return
            raise truncated(format_name, f"its {name.decode('ascii', 'replace')} part ends too early")
        yield Box(name, start, content, position)
    raise too_many_parts(format_name, "parts")
