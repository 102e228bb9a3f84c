"""WebP: the chunks of its RIFF file. Of an animation the first frame; profiles and camera data stay behind."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from costs import RATES
from image_file import MAX_PARTS, ImageFile, damaged, too_many_parts, truncated
from orientation import orientation

_ALPHA, _ANIMATION = 0x10, 0x02  # flags of VP8X
_FRAME_HEADER = 16  # bytes of ANMF before the chunks of its image


class _Chunk(NamedTuple):
    name: bytes
    body: bytes
    whole: bytes


def read(data: bytes) -> ImageFile:
    """Read the chunks. Raises InvalidImage."""
    extended, exif, xmp = None, b"", b""
    kept: list[_Chunk] = []
    for chunk in _walk(data, 12):
        if chunk.name == b"VP8X" and extended is None:
            extended = chunk.body
        elif chunk.name == b"EXIF":
            exif = chunk.body
        elif chunk.name == b"XMP ":
            xmp = chunk.body
        elif chunk.name in (b"ALPH", b"VP8 ", b"VP8L", b"ANMF") and not _is_complete(kept):
            kept.append(chunk)
    if not _is_complete(kept):
        raise truncated("WEBP", "it has no pixels")
    image = kept[-1]
    if image.name == b"ANMF":
        image = next(iter(c for c in _walk(image.body, _FRAME_HEADER) if c.name in (b"VP8 ", b"VP8L")), image)
    width, height = _size(image) if extended is None else _canvas(extended)
    is_lossless = image.name == b"VP8L"
    return ImageFile(
        format="WEBP",
        kind="lossless WebP" if is_lossless else "WebP",
        width=width,
        height=height,
        data=_file(extended, kept),
        cost=RATES["lossless WebP" if is_lossless else "WebP"].of(width * height, len(data)),
        orientation=orientation(exif, xmp),
    )


def _walk(data: bytes, position: int) -> Iterator[_Chunk]:
    """Give the chunks from `position` on. Raises InvalidImage for one that is cut off."""
    for _ in range(MAX_PARTS):
        name, length = data[position : position + 4], data[position + 4 : position + 8]
        if len(length) < 4:
            return
        start = position + 8
        end = start + int.from_bytes(length, "little")
        if end > len(data):
            if name in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"VP8X"):
                raise truncated("WEBP", f"it ends within its {name.decode().strip()} chunk")
            return
        position = end + (end - start) % 2
        yield _Chunk(name, data[start:end], data[start - 8 : position].ljust(position - start + 8, b"\0"))
    raise too_many_parts("WEBP", "chunks")


def _is_complete(kept: list[_Chunk]) -> bool:
    return bool(kept) and kept[-1].name != b"ALPH"


def _canvas(extended: bytes) -> tuple[int, int]:
    if len(extended) < 10:
        raise damaged("WEBP", "a VP8X chunk that is too short")
    return int.from_bytes(extended[4:7], "little") + 1, int.from_bytes(extended[7:10], "little") + 1


def _size(image: _Chunk) -> tuple[int, int]:
    """Read width and height from the bitstream's header."""
    body = image.body
    if image.name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if image.name == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise damaged("WEBP", f"no image in its {image.name.decode().strip()} chunk")


def _file(extended: bytes | None, kept: list[_Chunk]) -> bytes:
    """Write a file of these chunks alone."""
    parts = [chunk.whole for chunk in kept]
    if extended is not None:
        flags = extended[0] & (_ALPHA | _ANIMATION)
        parts.insert(0, struct.pack("<4sIB", b"VP8X", 10, flags) + b"\0\0\0" + extended[4:10])
        if flags & _ANIMATION:  # with no background, and for ever
            parts.insert(1, struct.pack("<4sIIH", b"ANIM", 6, 0, 0))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
