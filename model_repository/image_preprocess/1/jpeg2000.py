"""JPEG 2000: the headers of its codestream, and the boxes around it that say what its samples mean (ISO 15444-1)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from boxes import walk
from costs import RATES
from image_file import MAX_PARTS, Cost, ImageFile, damaged, too_many_parts, truncated, unsupported

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
STREAM_SIGNATURE = b"\xff\x4f\xff\x51"
_MEANING = {b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef"}
_SIZ, _COD, _COC, _TILE, _DATA = 0x51, 0x52, 0x53, 0x90, 0x93
_NAME = "JPEG2000"


class _Size(NamedTuple):
    """What the codestream says of its size (SIZ)."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    tiles: int
    components: int


def read(data: bytes) -> ImageFile:
    """Read the boxes and the headers. Raises InvalidImage."""
    file, start = _tidied(data) if data.startswith(SIGNATURE) else (data, 0)
    size, codings = _read_headers(file, start)
    cost = RATES["JPEG2000"].of(size.width * size.height, len(data), rows=size.height)
    cost += RATES["JPEG2000 tile"].of(size.tiles)
    for coding in codings:
        cost += _coding_cost(coding, size)
    return ImageFile(format="JPEG2000", kind=_NAME, width=size.width, height=size.height, data=file, cost=cost)


def _tidied(data: bytes) -> tuple[bytes, int]:
    """Give a file of the boxes that matter, and where its codestream begins."""
    header: dict[bytes, bytes] = {}
    size = b""
    for box in walk(data, len(SIGNATURE), len(data), _NAME):
        if box.name == b"jp2h" and not header:
            for inner in walk(data, box.content, box.end, _NAME):
                if inner.name in _MEANING:
                    header.setdefault(inner.name, data[inner.start : inner.end])
                if inner.name == b"ihdr":
                    size = data[inner.content : inner.content + 8]
        elif box.name == b"jp2c":
            stream = data[box.content : box.end]
            break
    else:
        raise truncated(_NAME, "it has no pixels")
    brand = b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
    parts = SIGNATURE, brand, _box(b"jp2h", b"".join(header.values()))
    start = sum(map(len, parts)) + 8
    if size != _sides(stream):
        raise damaged(_NAME, "sizes in its headers that contradict each other")
    return b"".join((*parts, _box(b"jp2c", stream))), start


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _sides(stream: bytes) -> bytes:
    """Give height and width as the boxes have them, from a codestream."""
    if not stream.startswith(STREAM_SIGNATURE) or len(stream) < 42:
        raise damaged(_NAME, "no codestream where it should be")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    return struct.pack(">ii", bottom - top, right - left)


def _read_headers(data: bytes, start: int) -> tuple[_Size, list[bytes]]:
    """Read the main header: the size, and how components are coded. Raises InvalidImage."""
    size, codings, position = None, [], start + 2
    for code, content, end in _segments(data, position):
        position = end
        if code == _SIZ:
            size = _read_size(content)
        elif code == _COD:
            codings.append(content)
        elif code == _COC:  # of one component, which is coded as dearly as all of them at most
            at = 2 if size is not None and size.components > 256 else 1
            codings.append(content[at : at + 1] + bytes(4) + content[at + 1 :])
    if size is None or not codings:
        raise truncated(_NAME, "it ends in its header")
    _refuse_tiles_of_their_own(data, position)
    return size, codings


def _segments(data: bytes, position: int) -> Iterator[tuple[int, bytes, int]]:
    """Give code, content and end of the marker segments, up to a tile or its data."""
    for _ in range(MAX_PARTS):
        marker = data[position : position + 2]
        if len(marker) < 2 or marker[0] != 0xFF:
            raise truncated(_NAME, "it ends in its header")
        if marker[1] in (_TILE, _DATA):
            return
        length = int.from_bytes(data[position + 2 : position + 4])
        if length < 2:
            raise damaged(_NAME, "a segment of no length")
        end = position + 2 + length
        yield marker[1], data[position + 4 : end], end
        position = end
    raise too_many_parts(_NAME, "segments")


def _refuse_tiles_of_their_own(data: bytes, position: int) -> None:
    """Refuse tiles that are coded otherwise than the main header says, for what they cost is not known."""
    for _ in range(MAX_PARTS):
        if data[position : position + 2] != b"\xff\x90":
            return
        length = int.from_bytes(data[position + 6 : position + 10])
        for code, _, _ in _segments(data, position + 12):
            if code in (_COD, _COC):
                raise unsupported(_NAME, "tiles that are coded in ways of their own")
        if not length:
            return
        position += max(length, 12)
    raise too_many_parts(_NAME, "tile parts")


def _read_size(content: bytes) -> _Size:
    _, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">HIIIIIIIIH", content
    )
    width, height = right - left, bottom - top
    if min(width, height, tile_width, tile_height) < 1 or tile_left > left or tile_top > top:
        raise damaged(_NAME, f"a size of {width}x{height} in tiles of {tile_width}x{tile_height}")
    if not 1 <= components <= 4:
        raise unsupported(_NAME, f"{components} components")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    return _Size(width, height, min(tile_width, width), min(tile_height, height), tiles, components)


def _coding_cost(coding: bytes, size: _Size) -> Cost:
    """Reckon what keeping account of small code blocks, precincts and layers takes (COD).

    Encoders make code blocks of 64x64 and precincts of the whole tile. Both can be of a few samples.
    """
    layers, levels = int.from_bytes(coding[2:4]), coding[5]
    block = 1 << (coding[6] & 15) + 2 + (coding[7] & 15) + 2
    precincts, most = 0, 1
    for resolution in range(min(levels, 32) + 1):
        exponents = coding[10 + resolution] if coding[0] & 1 else 0xFF
        width = -(-size.tile_width >> levels - resolution)
        height = -(-size.tile_height >> levels - resolution)
        count = -(-width >> (exponents & 15)) * -(-height >> (exponents >> 4))
        block = min(block, 1 << (exponents & 15) + (exponents >> 4))
        precincts, most = precincts + count, max(most, count)
    samples = size.width * size.height * size.components
    blocks = samples / block + 3 * precincts * size.components * size.tiles
    return RATES["JPEG2000 block"].of(blocks) + Cost(0, 2.0 * layers * (levels + 1) * most * size.components)
