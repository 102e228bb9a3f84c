"""Windows' bitmaps: BMP and DIB files, and icons, which hold bitmaps or PNGs; and QOI, a header of 14 bytes."""

import struct

import png
from costs import RATES
from image_file import ImageFile, damaged, truncated, unreadable, unsupported

_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_DEPTHS = (1, 4, 8, 16, 24, 32)
_RUN_LENGTHS = (1, 2)
_COMPRESSIONS = {4: "JPEG in it", 5: "PNG in it"}


def read_bmp(data: bytes) -> ImageFile:
    """Read the header of a BMP file. Raises InvalidImage."""
    return _read_dib(data, 14, "BMP")


def read_dib(data: bytes) -> ImageFile:
    """Read the header of a bitmap with no file header. Raises InvalidImage."""
    return _read_dib(data, 0, "DIB")


def read_qoi(data: bytes) -> ImageFile:
    """Read the header of a QOI file. Raises InvalidImage."""
    if len(data) < 14:
        raise truncated("QOI", "it ends in its header")
    width, height = struct.unpack_from(">II", data, 4)
    if not width or not height:
        raise unreadable("QOI")
    cost = RATES["QOI"].of(width * height, len(data), rows=height)
    return ImageFile(format="QOI", kind="QOI", width=width, height=height, data=data, cost=cost)


def read_icon(data: bytes) -> ImageFile:
    """Find the largest image of an icon, and read it. Raises InvalidImage."""
    (count,) = struct.unpack_from("<H", data, 4)
    entries = [struct.unpack_from("<BBBBHHII", data, 6 + 16 * index) for index in range(count)]
    if not entries:
        raise damaged("ICO", "no image in it")
    # Of equally large ones that of the fewest colours, which is Pillow's choice.
    entry = min(entries, key=lambda each: (-(each[0] or 256) * (each[1] or 256), _depth(each)))
    length, offset = entry[6], entry[7]
    inner = data[offset : offset + length]
    if len(inner) < length or len(inner) < 40:
        raise truncated("ICO", "it ends within its image")
    if inner.startswith(png.SIGNATURE):
        return png.read(inner, "ICO")
    bitmap = _read_dib(inner, 0, "ICO")
    alone = struct.pack("<HHHBBBBHHII", 0, 1, 1, *entry[:6], length, 22) + inner
    height = bitmap.height // 2  # the other half is the mask
    cost = bitmap.cost + RATES["ICO mask"].of(bitmap.width * height)
    return ImageFile(format="ICO", kind=bitmap.kind, width=bitmap.width, height=height, data=alone, cost=cost)


def _depth(entry: tuple[int, ...]) -> int:
    """Give the bits a pixel of an icon's directory entry."""
    colours, bits = entry[2], entry[5]
    return bits or (colours - 1).bit_length() * (colours > 1) or 256


def _read_dib(data: bytes, start: int, name: str) -> ImageFile:
    """Read the header at `start`."""
    (size,) = struct.unpack_from("<I", data, start)
    if size not in _HEADERS:
        raise unsupported(name, f"a header of {size} bytes")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, start + 4)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, start + 4)
    height = abs(height)
    if width < 1 or height < 1:
        raise unreadable(name)
    if bits not in _DEPTHS:
        raise unsupported(name, f"{bits} bits a pixel")
    if compression in _COMPRESSIONS:
        raise unsupported(name, _COMPRESSIONS[compression])
    is_run_length = compression in _RUN_LENGTHS
    rate = RATES["run-length BMP" if is_run_length else "BMP"]
    return ImageFile(
        format=name,
        kind=f"{'run-length ' if is_run_length else ''}{name}",
        width=width,
        height=height,
        data=data,
        cost=rate.of(width * height, len(data), rows=height),
    )
