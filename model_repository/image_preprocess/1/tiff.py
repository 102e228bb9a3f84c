"""TIFF: its first directory, written anew with the tags that pixels depend on and no others.

libtiff, through Pillow, reads many variants rightly, some wrongly and some not at all. Which is which was found with
files of every kind (tests/unit/test_tiff.py): each is read rightly or refused by name.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from costs import RATES
from directory import Directory, with_directory
from image_file import (
    MAX_PARTS,
    Cost,
    ImageFile,
    InvalidImage,
    damaged,
    not_read,
    too_many_parts,
    truncated,
    unreadable,
    unsupported,
)
from orientation import UPRIGHT, orientation
from PIL import TiffImagePlugin

# Pillow's own reading of uncompressed files takes 16-bit planes for 8-bit ones; libtiff reads them all.
TiffImagePlugin.READ_LIBTIFF = True

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _COLOURS = 273, 274, 277, 278, 279, 284, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUBDIRECTORIES, _INKS = 322, 323, 324, 325, 330, 332
_EXTRA, _FORMAT, _JPEG_TABLES, _COEFFICIENTS, _SUBSAMPLING, _REFERENCE = 338, 339, 347, 529, 530, 532
_XMP, _CFA_PATTERN, _DNG_VERSION = 700, 33422, 50706
_MAKER, _FAX_OPTIONS, _PREDICTOR, _POSITIONING = 271, (292, 293), 317, 531
_OLD_JPEG_TAGS = (512, 513, 514, 515, 517, 518, 519, 520, 521)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOUR_SPACES = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "ICC Lab",
}
_COLOUR_SPACES |= {10: "ITU Lab", 32803: "sensor", 32844: "LogL", 32845: "LogLuv", 34892: "linear sensor"}
_SENSOR = (32803, 34892)
_MAX_SAMPLES, _MAX_SUBDIRECTORIES = 64, 16
_UNCOMPRESSED, _OLD_JPEG, _JPEG, _FAX = 1, 6, 7, (2, 3, 4, 32771)
_COMPRESSIONS = {_UNCOMPRESSED, *_FAX, 5, _OLD_JPEG, _JPEG, 8, 32773, 32946, 34925, 50000}
_COMPRESSION_NAMES = {34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC", 50001: "WebP"}
_COMPRESSION_NAMES |= {50002: "JPEG XL", 52546: "JPEG XL", 34676: "SGI log", 34677: "SGI log", 32809: "ThunderScan"}


class _Layout(NamedTuple):
    """How samples make up a pixel."""

    photometric: int
    bits: tuple[int, ...]
    extra: tuple[int, ...]
    """what each sample beyond the colours is: 0 nothing, 1 premultiplied alpha, 2 alpha"""
    kind: int
    """1 unsigned, 2 signed, 3 floating point"""


def read(data: bytes) -> ImageFile:
    """Read the first directory. Raises InvalidImage."""
    tags = Directory(data)
    _refuse_raw(data, tags)
    width, height = tags.integer(_WIDTH, 0), tags.integer(_HEIGHT, 0)
    if width < 1 or height < 1:
        raise unreadable("TIFF")
    compression = tags.integer(_COMPRESSION, _UNCOMPRESSED)
    if compression not in _COMPRESSIONS:
        raise unsupported("TIFF", f"compression {_COMPRESSION_NAMES.get(compression, compression)}")
    layout = _layout(tags, compression)
    order = "<" if layout.bits == (12,) else tags.order  # which Pillow wants of packed samples; they have no order
    is_inverted = layout.photometric == _WHITE_IS_ZERO and layout.bits[0] > 8  # which Pillow does not see to
    if is_inverted:
        layout = layout._replace(photometric=_BLACK_IS_ZERO)
    _refuse_unread(layout, order, tags)
    kept = _described(tags, layout) | {_WIDTH: (width,), _HEIGHT: (height,), _COMPRESSION: (compression,)}
    parts = _parts(data, tags, layout, kept)
    return ImageFile(
        format="TIFF",
        kind="TIFF",
        width=width,
        height=height,
        data=with_directory(data, order, kept | parts.tags),
        cost=_cost(data, width * height, height, parts, compression),
        orientation=_turned(tags),
        white_level=2 ** layout.bits[0] - 1,
        is_inverted=is_inverted,
    )


def _turned(tags: Directory) -> int:
    """Read the orientation, of which there is no other camera data to ask."""
    if _ORIENTATION not in tags:
        return orientation(None, tags.raw(_XMP) if _XMP in tags else None)
    value = tags.integer(_ORIENTATION, UPRIGHT)
    return value if 1 <= value <= 8 else UPRIGHT


def _layout(tags: Directory, compression: int) -> _Layout:
    """Read how samples make up a pixel, what is not said as libtiff takes it."""
    photometric = tags.integer(_PHOTOMETRIC, -1)
    is_old_colour = compression == _OLD_JPEG and photometric in (_RGB, _YCBCR)
    samples = tags.integer(_SAMPLES, 3 if is_old_colour else 1)
    bits, extra = tags.integers(_BITS, (1,)), tags.integers(_EXTRA)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise unsupported("TIFF", f"{samples} samples a pixel")
    bits = bits * samples if len(bits) == 1 else bits[:samples]
    if len(bits) != samples or len(extra) >= samples + (samples == 1):
        raise damaged("TIFF", "numbers of samples that contradict each other")
    if photometric < 0:
        is_grey = samples - len(extra) < 3
        photometric = (_WHITE_IS_ZERO if compression in _FAX else _BLACK_IS_ZERO) if is_grey else _RGB
    kinds = set(tags.integers(_FORMAT, (1,)))
    return _Layout(photometric, bits, extra, kinds.pop() if len(kinds) == 1 else 0)


def _refuse_unread(layout: _Layout, order: str, tags: Directory) -> None:
    """Raise InvalidImage that names what is not read: neither by Pillow, nor rightly."""
    prefix = TiffImagePlugin.II if order == "<" else TiffImagePlugin.MM
    bits, extra, is_planar = layout.bits, layout.extra, tags.integer(_PLANAR, 1) == 2
    if is_planar and not any(extra):  # Pillow leaves planes without a meaning alone
        bits, extra = bits[: len(bits) - len(extra)], ()
    key = (prefix, layout.photometric, (1,), tags.integer(_FILL_ORDER, 1), bits, extra)
    if layout.bits[0] >= 32 or layout.kind in (2, 3):
        what = f"{_description(layout)} cannot be converted to RGB"
        raise unsupported("TIFF", f"{what}: the range of {layout.bits[0]}-bit values is not known")
    if layout.kind not in (1, 4) or key not in TiffImagePlugin.OPEN_INFO:
        raise unsupported("TIFF", _description(layout))
    if is_planar and extra and len(bits) == 2:  # of which Pillow reads the first plane alone
        raise unsupported("TIFF", f"{_description(layout)} in planes")
    if layout.photometric == _CMYK and tags.integer(_INKS, 1) != 1:
        raise unsupported("TIFF", "inks that are not cyan, magenta, yellow and black")


def _description(layout: _Layout) -> str:
    """Say what a pixel is made of: "16-bit floating-point grey with alpha"."""
    bits = "/".join(map(str, layout.bits)) if len(set(layout.bits)) > 1 else str(layout.bits[0])
    kind = {1: "", 2: "signed ", 3: "floating-point ", 4: "", 5: "complex ", 6: "complex "}.get(layout.kind, "mixed ")
    colours = _COLOUR_SPACES.get(layout.photometric, f"photometric {layout.photometric}")
    names = {0: "an extra sample", 1: "premultiplied alpha", 2: "alpha"}
    extra = " and ".join(names.get(each, "an extra sample") for each in layout.extra)
    samples = "" if extra or len(layout.bits) < 2 else f" of {len(layout.bits)} samples"
    return f"{bits}-bit {kind}{colours}{samples}{' with ' if extra else ''}{extra}"


def _described(tags: Directory, layout: _Layout) -> dict[int, tuple[int, ...] | bytes]:
    """Give the tags that say what samples mean."""
    kept: dict[int, tuple[int, ...] | bytes] = {
        _PHOTOMETRIC: (layout.photometric,),
        _BITS: layout.bits,
        _SAMPLES: (len(layout.bits),),
        _PLANAR: (tags.integer(_PLANAR, 1),),
    }
    if layout.extra:
        kept[_EXTRA] = layout.extra
    for tag in (_FILL_ORDER, _PREDICTOR, *_FAX_OPTIONS, _SUBSAMPLING, _POSITIONING, *_OLD_JPEG_TAGS):
        if numbers := tags.integers(tag):
            kept[tag] = numbers
    if _JPEG_TABLES in tags:
        kept[_JPEG_TABLES] = tags.raw(_JPEG_TABLES)
    for tag, length in ((_COEFFICIENTS, 24), (_REFERENCE, 48)):  # rationals
        if tag in tags and len(raw := tags.raw(tag)) == length:
            kept[tag] = raw
    if layout.photometric == _PALETTE:
        colours = tags.integers(_COLOURS)
        if len(colours) < 3 * 2 ** layout.bits[0]:
            raise damaged("TIFF", "a palette that is too short")
        kept[_COLOURS] = colours if max(colours) > 255 else tuple(257 * value for value in colours)
    return kept


class _Parts(NamedTuple):
    """The strips or tiles: where they are, and how many bytes one of them and all of them are, decoded."""

    tags: dict[int, tuple[int, ...] | bytes]
    number: int
    part_bytes: int
    all_bytes: int


def _parts(data: bytes, tags: Directory, layout: _Layout, kept: Mapping[int, tuple[int, ...] | bytes]) -> _Parts:
    """Find the strips or tiles. Raises InvalidImage where some are missing."""
    (width,), (height,) = kept[_WIDTH], kept[_HEIGHT]
    is_tiled = _TILES in tags
    columns, rows = width, min(tags.integer(_ROWS, height) or height, height)
    if is_tiled:
        columns, rows = tags.integer(_TILE_WIDTH, 0), tags.integer(_TILE_HEIGHT, 0)
        if columns < 1 or rows < 1:
            raise damaged("TIFF", f"tiles of {columns}x{rows}")
    planes = len(layout.bits) if kept[_PLANAR] == (2,) else 1
    count = -(-width // columns) * -(-height // rows) * planes
    if count > MAX_PARTS:
        raise too_many_parts("TIFF", "strips or tiles")
    part_bytes = -(-columns * sum(layout.bits) // planes // 8) * rows
    offsets = tags.integers(_TILES if is_tiled else _STRIPS)[:count]
    if len(offsets) < count or max(offsets) >= len(data):
        there = sum(offset < len(data) for offset in offsets)
        raise truncated("TIFF", f"{there} of {count} strips or tiles are in it")
    lengths = tags.integers(_TILE_BYTES if is_tiled else _STRIP_BYTES)[:count]
    found: dict[int, tuple[int, ...] | bytes] = {}
    if kept[_COMPRESSION] == (_UNCOMPRESSED,) and layout.photometric != _YCBCR:
        lengths = _uncompressed(offsets, len(data), part_bytes, rows, 0 if is_tiled else height)
    elif layout.photometric == _YCBCR and sum(lengths) == width * height * len(layout.bits):
        found[_SUBSAMPLING] = (1, 1)  # whatever is said, or not: libtiff would take it for the usual 2 by 2
    elif not lengths and count == 1:
        lengths = (len(data) - offsets[0],)
    elif len(lengths) < count:
        raise damaged("TIFF", "no sizes of its strips or tiles")
    sizes = tuple(min(length, len(data) - offset) for offset, length in zip(offsets, lengths, strict=True))
    if is_tiled:
        found |= {_TILES: offsets, _TILE_BYTES: sizes, _TILE_WIDTH: (columns,), _TILE_HEIGHT: (rows,)}
    else:
        found |= {_STRIPS: offsets, _STRIP_BYTES: sizes, _ROWS: (rows,)}
    return _Parts(found, count, part_bytes, part_bytes * count)


def _uncompressed(offsets: tuple[int, ...], end: int, part_bytes: int, rows: int, height: int) -> tuple[int, ...]:
    """Give the lengths of uncompressed strips of an image of `height`, or of tiles (0). Raises InvalidImage."""
    per_plane = -(-height // rows) if height else len(offsets)
    row_bytes = part_bytes // rows
    lengths = []
    for index, offset in enumerate(offsets):
        length = min(rows, height - index % per_plane * rows) * row_bytes if height else part_bytes
        if offset + length > end:
            raise truncated("TIFF", f"it ends within strip or tile {index + 1} of {len(offsets)}")
        lengths.append(length)
    return tuple(lengths)


def _cost(data: bytes, pixels: int, height: int, parts: _Parts, compression: int) -> Cost:
    cost = RATES["TIFF"].of(pixels, len(data), rows=height)
    cost += RATES["TIFF sample byte"].of(parts.all_bytes) + RATES["TIFF strip"].of(parts.number)
    if compression in (_JPEG, _OLD_JPEG):  # each strip is a file of its own, and may be progressive
        scans = data.count(b"\xff\xda") / parts.number
        cost += RATES["JPEG scan"].of(parts.all_bytes * scans)
    return cost + Cost(0, parts.part_bytes)


def _refuse_raw(data: bytes, tags: Directory) -> None:
    """Refuse a camera's raw file, whose first image is a thumbnail. Raises InvalidImage."""
    if _DNG_VERSION in tags:
        raise not_read("a camera's raw file (DNG)")
    if data[8:10] == b"CR":
        raise not_read("a camera's raw file (Canon CR2)")
    directories = [tags]
    for offset in tags.integers(_SUBDIRECTORIES)[:_MAX_SUBDIRECTORIES]:
        with suppress(InvalidImage):
            directories.append(Directory(data, offset))
    if any(each.integer(_PHOTOMETRIC, 0) in _SENSOR or _CFA_PATTERN in each for each in directories):
        maker = bytes(tags.raw(_MAKER)).split(b"\0")[0].decode("ascii", "ignore") if _MAKER in tags else ""
        raise not_read(f"a camera's raw file{f' ({maker.strip()})' if maker.strip().isprintable() and maker else ''}")
