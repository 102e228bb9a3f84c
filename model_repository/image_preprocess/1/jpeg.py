"""JPEG: its segments and what they say. The markers are followed as libjpeg follows them, whose reading viewers share.

Of all the segments that are not pixels, three have a say: the camera's orientation (EXIF, XMP), and JFIF's and Adobe's
markers, which tell how colours are stored. libjpeg skips the others, whatever they hold.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from costs import RATES
from image_file import Cost, ImageFile, damaged, too_many_parts, truncated, unreadable, unsupported
from orientation import orientation

MAX_SCANS = 100  # encoders write about ten, and each is a pass over the whole image
_MAX_SEGMENTS = 10_000
_MAX_SIDE = 65_500  # libjpeg's

_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COMMENT, _LS = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xF7
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_PROCESSES = {0xC0: "JPEG", 0xC1: "JPEG", 0xC2: "progressive JPEG"}
_PROGRESSIVE = 0xC2
_UNREAD = {
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded"),  # of which libjpeg does not tell whether pixels are missing
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical"),
    _LS: "JPEG-LS",
}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a scan may hold escaped 0xFF and restart markers
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, kw_only=True)
class Jpeg(ImageFile):
    """A JPEG file. `is_inverted` says that CMYK is as Adobe writes it, with 255 for no ink."""

    components: int
    """1 grey, 3 colour, 4 CMYK"""
    scan_start: int
    """where in `data` the first scan's data begin"""

    def reduced_cost(self, factor: int) -> Cost:
        """Reckon the cost of decoding at 1/`factor`: fewer pixels to keep, as many coefficients to read."""
        saved = RATES["JPEG"].memory * self.width * self.height * (1 - 1 / factor**2)
        return Cost(self.cost.nanoseconds, self.cost.memory - saved)


class _Segment(NamedTuple):
    """A marker and what follows it: `data[start:end]`, its content from `content` on."""

    code: int
    start: int
    content: int
    end: int


@dataclass
class _Header:
    """What the segments before the first scan say."""

    process: int = 0
    frame: bytes = b""
    scan: bytes = b""
    scan_end: int = 0
    exif: list[bytes] = field(default_factory=list)  # it may go on in further segments
    xmp: bytes = b""
    has_jfif: bool = False
    is_adobe: bool = False
    transform: int | None = None  # Adobe's, of colours
    is_irregular: bool = False  # with what libjpeg warns of though pixels do not depend on it


def read(data: bytes) -> Jpeg:
    """Read the header. Raises InvalidImage."""
    header = _read_header(data)
    width, height, components = _size(header.frame)
    is_progressive = header.process == _PROGRESSIVE
    if is_progressive or header.scan[:1] < bytes([components]):
        scans, has_end = _read_scans(data, header)
        if not _are_complete(scans, header.frame, is_progressive=is_progressive, has_end=has_end):
            raise truncated("JPEG", "image file is truncated, scans are missing")
        samples = _samples(header.frame)
        cost = RATES["progressive JPEG"].of(width * height, len(data))
        cost += RATES["JPEG scan"].of(samples * len(scans)) + Cost(0, 2.0 * samples)
    else:
        cost = RATES["JPEG"].of(width * height, len(data))
    tidied, scan_start = _tidied(data, header)
    return Jpeg(
        format="JPEG",
        kind=_PROCESSES[header.process],
        width=width,
        height=height,
        data=tidied,
        cost=cost,
        orientation=orientation(b"".join(header.exif), header.xmp),
        is_inverted=components == 4 and header.is_adobe,
        components=components,
        scan_start=scan_start,
    )


def _segments(data: bytes, position: int) -> Iterator[_Segment]:
    """Find the markers from `position` on, up to a scan or the end."""
    end = len(data)
    for _ in range(_MAX_SEGMENTS):
        start = position
        if position + 2 > end or data[position] != 0xFF or data[position + 1] in (0, 0xFF):
            match = _MARKER.search(data, position)  # past whatever stands between the markers
            if match is None:
                return
            start = match.start()
        code, position = data[start + 1], start + 2
        if code in _STANDALONE:
            continue
        if code in (_SOI, _EOI):
            yield _Segment(code, start, position, position)
            return
        content = position + 2
        position += max(2, int.from_bytes(data[position:content]))
        if position > end:
            return
        yield _Segment(code, start, content, position)
        if code == _SOS:
            return
    raise too_many_parts("JPEG", "segments", _MAX_SEGMENTS)


def _read_header(data: bytes) -> _Header:
    header, position, code = _Header(), 2, 0
    for code, start, content, position_after in _segments(data, 2):
        if start != position and data[position:start].strip(b"\xff"):
            header.is_irregular = True
        position = position_after
        if code in _PROCESSES:
            if header.frame:
                raise damaged("JPEG", "two frames")
            header.process, header.frame = code, data[content:position]
        elif code == _APP0 and data[content : content + 5] == b"JFIF\0" and position - content >= 14:
            header.has_jfif = True
            header.is_irregular |= data[content + 5] != 1
        elif code == _APP1:
            if data[content : content + 6] == b"Exif\0\0":
                header.exif.append(data[content + 6 : position])
            elif data[content : content + len(_XMP)] == _XMP:
                header.xmp = data[content:position]
        elif code == _APP14 and data[content : content + 5] == b"Adobe":
            header.is_adobe = True
            if position - content >= 12:
                header.transform = data[content + 11]
                header.is_irregular |= header.transform > 2
        elif code in _UNREAD:
            raise unsupported("JPEG", _UNREAD[code])
    if code == _SOI:
        raise damaged("JPEG", "a second start in its header")
    if code != _SOS:
        raise truncated("JPEG", "it ends before its pixels")
    header.scan, header.scan_end = data[content:position], position
    return header


def _size(frame: bytes) -> tuple[int, int, int]:
    """Read width, height and number of components."""
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise unreadable("JPEG")
    precision, components = frame[0], frame[5]
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if precision != 8:
        raise unsupported("JPEG", f"{precision} bits a sample")
    if components not in (1, 3, 4):
        raise unsupported("JPEG", f"{components} components")
    if height == 0:
        raise unsupported("JPEG", "its height is not in its header")
    if width == 0:
        raise unreadable("JPEG")
    if max(width, height) > _MAX_SIDE:
        raise unsupported("JPEG", f"{width}x{height}, with a side of more than {_MAX_SIDE}")
    return width, height, components


def _samples(frame: bytes) -> float:
    """Count the samples of all components, some of which are stored at a lower resolution."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    factors = [(byte >> 4) * (byte & 15) for byte in frame[7 : 6 + 3 * frame[5] : 3]]
    return width * height * sum(factors) / max(*factors, 1)


def _read_scans(data: bytes, header: _Header) -> tuple[list[bytes], bool]:
    """Give the headers of all scans, and whether there is an end marker after them. Raises InvalidImage."""
    scans, position, segments = [header.scan], header.scan_end, 0
    while match := _END_OF_SCAN.search(data, position):
        between = list(_segments(data, match.start()))
        segments += len(between)
        if not between or between[-1].code != _SOS:
            return scans, bool(between) and between[-1].code == _EOI
        scans.append(data[between[-1].content : between[-1].end])
        position = between[-1].end
        if len(scans) > MAX_SCANS:
            raise too_many_parts("JPEG", "scans", MAX_SCANS)
        if segments > _MAX_SEGMENTS:
            raise too_many_parts("JPEG", "segments", _MAX_SEGMENTS)
    return scans, False


def _are_complete(scans: list[bytes], frame: bytes, *, is_progressive: bool, has_end: bool) -> bool:
    """Tell whether the scans have something of every component; where no end marker says so, whether they have all.

    A progressive one is complete when each of the 64 coefficients has come down to its last bit.
    """
    components = set(frame[6 : 6 + 3 * frame[5] : 3])
    missing = {component: set(range(64) if is_progressive and not has_end else [0]) for component in components}
    for scan in scans:
        count = scan[0]
        first, last, bit = scan[1 + 2 * count : 4 + 2 * count]
        for component in scan[1 : 1 + 2 * count : 2]:
            if not is_progressive or has_end or bit & 15 == 0:
                missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())


def bare(data: bytes) -> bytes:
    """Give the file without any segment that its pixels do not depend on."""
    return _bare(data, _read_header(data))[0]


def _tidied(data: bytes, header: _Header) -> tuple[bytes, int]:
    """Give a file without what libjpeg warns of though no pixel depends on it, so that its warnings mean damage.

    Also tells where its first scan's data begin.
    """
    data, start = _bare(data, header) if header.is_irregular else (data, header.scan_end)
    return data if data.endswith(b"\xff\xd9") else data + b"\xff\xd9", start  # whole pixels can do without


def _bare(data: bytes, header: _Header) -> tuple[bytes, int]:
    kept = [b"\xff\xd8"]
    if header.has_jfif:
        kept.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
    if header.transform is not None:
        # libjpeg takes an unknown transform for the usual one: YCbCr, or YCCK.
        usual = 1 if header.frame[5] == 3 else 2
        transform = header.transform if header.transform <= 2 else usual
        kept.append(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]))
    for code, start, _, end in _segments(data, 2):
        if not _APP0 <= code <= _APP15 and code != _COMMENT:
            kept.append(data[start:end])
    head = b"".join(kept)
    return head + data[header.scan_end :], len(head)
