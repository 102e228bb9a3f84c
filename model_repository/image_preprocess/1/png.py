"""PNG: its chunks. Those that pixels depend on go to the decoder, the pixels as one chunk however they were cut up.

What is wrong with other chunks, checksums included, is nobody's loss. Of transparency (tRNS), which is ancillary too, a
broken one is left out, as libpng does.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from costs import RATES
from image_file import MAX_PARTS, Cost, ImageFile, damaged, too_many_parts, truncated, unreadable, unsupported
from orientation import orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_LONGEST_TEXT = 1 << 18  # inflated, of the texts that may hold the orientation
_MAX_TEXTS = 256
_SMALL_CHUNK = 1024
_HEADER = slice(16, 29)  # of a file that `read` made: where IHDR's body is
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 16


@dataclass
class _Chunks:
    """The chunks that matter."""

    header: bytes = b""
    palette: bytes = b""
    transparency: bytes = b""
    pixels: list[memoryview] = field(default_factory=list)  # compressed
    pixel_chunks: bytes = b""  # the same, as they stand in the file
    exif: bytes = b""
    xmp: bytes = b""
    texts: int = 0  # that were looked into


def read(data: bytes, container: str = "PNG") -> ImageFile:
    """Read a PNG file, or one in the `container` (an icon). Raises InvalidImage."""
    chunks = _read_chunks(data, container)
    width, height, depth, colour, interlace = _read_header(chunks.header, container)
    if not chunks.pixels:
        raise truncated(container, "it has no pixels")
    if colour == 3 and not chunks.palette:
        raise damaged(container, "it has no palette")
    compressed = sum(map(len, chunks.pixels))
    pixels = chunks.pixel_chunks
    if len(chunks.pixels) * _SMALL_CHUNK > compressed + _SMALL_CHUNK:
        pixels = _chunk(b"IDAT", b"".join(chunks.pixels))  # for Pillow takes some microseconds for each
    parts = [SIGNATURE, _chunk(b"IHDR", chunks.header)]
    if chunks.palette:
        parts.append(_chunk(b"PLTE", chunks.palette))
    if _is_usable(chunks.transparency, colour, chunks.palette):
        parts.append(_chunk(b"tRNS", chunks.transparency))
    stored = 2 if depth == 16 and colour == 0 else 1 if colour in (0, 3) else 4  # bytes a pixel, by Pillow
    cost = RATES["PNG"].of(width * height, len(data), rows=height)
    cost += RATES["PNG sample byte"].of(width * height * depth * _CHANNELS[colour] / 8)
    cost += RATES["PNG chunk"].of(len(chunks.pixels))
    if colour in (4, 6) or (colour == 2 and chunks.transparency):
        cost += RATES["PNG alpha"].of(width * height)
    return ImageFile(
        format="PNG",
        kind=f"{depth}-bit {'interlaced ' if interlace else ''}{container}",
        width=width,
        height=height,
        data=b"".join((*parts, pixels, _chunk(b"IEND", b""))),
        cost=cost + Cost(0, stored * width * height),
        orientation=orientation(chunks.exif, chunks.xmp),
    )


def has_all_rows(data: bytes) -> bool:
    """Tell whether the pixels of a file that `read` made inflate to as many bytes as their size asks for."""
    width, height, depth, colour, interlace = _read_header(data[_HEADER], "PNG")
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * depth * _CHANNELS[colour] // 8))
    inflate = zlib.decompressobj()
    for name, start, end in _walk(data, "PNG"):
        rest = data[start:end] if name == b"IDAT" else b""
        while rest and missing > 0:
            missing -= len(inflate.decompress(rest, _PIECE))
            rest = inflate.unconsumed_tail
    return missing <= 0


def _read_chunks(data: bytes, container: str) -> _Chunks:
    found, first, last = _Chunks(), 0, 0
    for name, start, end in _walk(data, container):
        body = memoryview(data)[start:end]
        is_whole = len(data) >= end + 4
        is_intact = is_whole and zlib.crc32(body, zlib.crc32(name)) == int.from_bytes(data[end : end + 4])
        if name in (b"IHDR", b"PLTE", b"IDAT") and is_whole and not is_intact:
            raise damaged(container, f"wrong checksum of an {name.decode()} chunk")
        if name == b"IDAT":  # of one that is cut off, the decoder will say how much is missing, if any pixel is
            if not found.pixels:
                first = last = start - 8
            if last == start - 8:
                found.pixels.append(body)
                last = end + 4
        elif name == b"IHDR":
            found.header = found.header or bytes(body)
        elif name == b"PLTE":
            found.palette = found.palette or bytes(body)
        elif name == b"tRNS":
            found.transparency = bytes(body) if is_intact else b""
        elif name == b"eXIf":
            found.exif = bytes(body)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _read_text(found, name, bytes(body))
        elif name == b"CgBI":
            raise unsupported(container, "optimised for iOS")
    found.pixel_chunks = data[first:last]
    return found


def _walk(data: bytes, container: str) -> Iterator[tuple[bytes, int, int]]:
    """Give each chunk's name, and where its body begins and ends; the last one may be cut off."""
    position = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        name = data[position + 4 : position + 8]
        if not name.isalpha() or len(name) < 4 or name == b"IEND":
            return
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4])
        yield name, start, end
        position = end + 4
        if position > len(data):
            return
    raise too_many_parts(container, "chunks")


def _read_header(header: bytes, container: str) -> tuple[int, int, int, int, int]:
    """Read width, height, bit depth, colour type and interlacing."""
    if len(header) < 13:
        raise unreadable(container)
    width, height, depth, colour, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", header)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise unreadable(container)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise unreadable(container)
    return width, height, depth, colour, interlace


def _read_text(found: _Chunks, name: bytes, body: bytes) -> None:
    """Keep a text that may hold the orientation."""
    found.texts += 1
    if found.texts > _MAX_TEXTS:
        return
    key, _, text = body.partition(b"\0")
    if key == b"exif" and name == b"tEXt":
        found.exif = found.exif or text
    elif key == b"Raw profile type exif" and not found.exif:
        text = _inflated(text[1:]) if name == b"zTXt" else text
        digits = b"".join(text.split(b"\n")[3:])  # after an empty line, the kind and the length
        try:
            found.exif = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            return
    elif key == b"XML:com.adobe.xmp" and name == b"iTXt":
        _, _, value = text[2:].partition(b"\0")  # the language, and the translated key
        _, _, value = value.partition(b"\0")
        found.xmp = _inflated(value) if text[:1] == b"\1" else value


def _inflated(text: bytes) -> bytes:
    """Inflate the beginning of a text; nothing where that cannot be."""
    try:
        return zlib.decompressobj().decompress(text, _LONGEST_TEXT)
    except zlib.error:
        return b""


def _is_usable(transparency: bytes, colour: int, palette: bytes) -> bool:
    """Tell whether a tRNS chunk has the length that its colour type asks for."""
    if colour == 3:
        return 0 < len(transparency) <= len(palette) // 3
    return len(transparency) == {0: 2, 2: 6}.get(colour)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
