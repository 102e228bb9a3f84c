"""GIF: its blocks up to the end of the first image. Comments and applications' data stay behind."""

import struct

from costs import RATES
from image_file import MAX_PARTS, ImageFile, too_many_parts, truncated, unreadable

_EXTENSION, _IMAGE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def read(data: bytes) -> ImageFile:
    """Read the blocks. Raises InvalidImage."""
    if len(data) < 13:
        raise truncated("GIF", "it ends in its header")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    head = position = 13 + _palette_bytes(flags)
    control, parts = b"", 0
    while (code := data[position : position + 1]) != b",":
        parts += 1
        if parts > MAX_PARTS:
            raise too_many_parts("GIF", "blocks")
        if not code or code[0] == _TRAILER:
            raise truncated("GIF", "it has no image")
        if code[0] != _EXTENSION:
            position += 1  # as every reader does with bytes between blocks
            continue
        start = position
        position, blocks = _skip(data, position + 2)
        parts += blocks
        if data[start + 1 : start + 2] == bytes([_CONTROL]):
            block = data[start:position]
            control = block if len(block) == 8 else control
    descriptor = data[position : position + 10]
    if len(descriptor) < 10:
        raise truncated("GIF", "it ends in the header of its image")
    left, top, columns, rows, flags = struct.unpack_from("<HHHHB", descriptor, 1)
    if not columns or not rows:
        raise unreadable("GIF")
    end, _ = _skip(data, position + 10 + _palette_bytes(flags) + 1)
    width, height = max(width, left + columns), max(height, top + rows)
    return ImageFile(
        format="GIF",
        kind="GIF",
        width=width,
        height=height,
        data=data[:head] + control + data[position:end],
        cost=RATES["GIF"].of(width * height, len(data), rows=height),
    )


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(data: bytes, position: int) -> tuple[int, int]:
    """Go past a chain of sub-blocks; tell where it ends and how many there are."""
    for blocks in range(MAX_PARTS * 10):
        if position >= len(data):
            return len(data), blocks
        length = data[position]
        position += length + 1
        if not length:
            return position, blocks
    raise too_many_parts("GIF", "sub-blocks", MAX_PARTS * 10)
