"""How many pixels an image file says it has, from its header alone, in a bounded number of steps.

Nothing is decoded, and nothing is searched for: each format has its size at a known place, or at the end of a short
walk over segments or boxes. Where the walk is longer than any ordinary file's, or the header makes no sense, there is
no telling. That is no loss: the model server has the same limit, and this one only spares it hopeless work.
"""

import re
import struct
from collections.abc import Callable, Iterator

STEPS = 1024  # segments, boxes or directory entries looked at; a photograph with all its metadata has some dozens

Size = tuple[int, int]

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # JPEG markers with no length
_SCAN, _END = 0xDA, 0xD9
_IMAGE_WIDTH, _IMAGE_LENGTH = 256, 257  # TIFF's tags
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}
_PORTABLE = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(\d{1,10})\s+(?:#[^\n]*\n\s*)*(\d{1,10})\s")
_PORTABLE_HEADER_BYTES = 1024


def pixels_of(data: bytes) -> int | None:
    """Width times height as the header has it; None where there is no telling."""
    for signature, reader in _READERS:
        if signature.match(data):
            try:
                size = reader(data)
            except (struct.error, IndexError):  # the header is cut off
                return None
            return None if size is None else abs(size[0] * size[1])
    return None


def _png(data: bytes) -> Size | None:
    return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> Size:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    return struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)


def _qoi(data: bytes) -> Size:
    return struct.unpack_from(">II", data, 4)


def _portable(data: bytes) -> Size | None:
    found = _PORTABLE.match(data[:_PORTABLE_HEADER_BYTES])
    return (int(found[1]), int(found[2])) if found else None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> Size | None:
    """From the first frame header, which stands behind any number of segments of metadata."""
    at = 2
    for _ in range(STEPS):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker in (_SCAN, _END):
            return None
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + max(2, length)
    return None


def _tiff(data: bytes) -> Size | None:
    """From the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF: 64-bit offsets
        (at,) = struct.unpack_from(order + "Q", data, 8)
        (entries,) = struct.unpack_from(order + "Q", data, at)
        at, step, value_at = at + 8, 20, 12
    else:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, at)
        at, step, value_at = at + 2, 12, 8
    found = {}
    for entry in range(at, at + step * min(entries, STEPS), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (_IMAGE_WIDTH, _IMAGE_LENGTH) and kind in _TIFF_TYPES:
            (found[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + value_at)
    return (found[_IMAGE_WIDTH], found[_IMAGE_LENGTH]) if len(found) == 2 else None


def _jpeg2000_stream(data: bytes) -> Size:
    right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
    return right - left, bottom - top


def _jpeg2000(data: bytes) -> Size | None:
    found = _first(data, (0, len(data)), b"jp2h", b"ihdr")
    if found is None:
        return None
    height, width = struct.unpack_from(">II", data, found[0])
    return width, height


def _heif(data: bytes) -> Size | None:
    """HEIF and AVIF, from the properties of the items: the whole image is the largest of them."""
    properties = _first(data, (0, len(data)), b"meta", b"iprp", b"ipco")
    if properties is None:
        return None
    sizes: list[Size] = [
        struct.unpack_from(">II", data, start + 4) for kind, start, _ in _boxes(data, *properties) if kind == b"ispe"
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _first(data: bytes, within: tuple[int, int], *path: bytes) -> tuple[int, int] | None:
    """Where the content of the first box of the first kind begins and ends, of the next kind inside it, and so on."""
    for wanted in path:
        found = next(((start, end) for kind, start, end in _boxes(data, *within) if kind == wanted), None)
        if found is None:
            return None
        within = (found[0] + 4, found[1]) if wanted == b"meta" else found  # that one has a version and flags first
    return within


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an ISO media file between two places: kind, and where its content begins and ends."""
    for _ in range(STEPS):
        if start + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:  # a 64-bit length follows
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if length == 0 else min(start + length, end)
        if stop < content:
            return
        yield kind, content, stop
        start = stop


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Size | None]], ...] = tuple(
    (re.compile(signature, re.DOTALL), reader)
    for signature, reader in (
        (rb"\xff\xd8\xff", _jpeg),
        (rb"\x89PNG\r\n\x1a\n", _png),
        (rb"RIFF....WEBP", _webp),
        (rb"GIF8[79]a", _gif),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"....ftyp", _heif),
        (rb"\0\0\0\x0cjP  ", _jpeg2000),
        (rb"\xff\x4f\xff\x51", _jpeg2000_stream),
        (rb"qoif", _qoi),
        (rb"BM", _bmp),
        (rb"P[1-6]\s", _portable),
    )
)
