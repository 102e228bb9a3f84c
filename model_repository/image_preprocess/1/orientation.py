"""The camera's orientation, 1 to 8, read from EXIF or XMP data as lenient as can be: what is broken counts as upright.

EXIF (CIPA DC-008) is a TIFF file of its own; the orientation is tag 0x0112 of its first directory. XMP is consulted
where EXIF does not say, as Pillow does.
"""

import re
import struct

UPRIGHT = 1
_TAG = 0x0112
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF's whole numbers of up to 4 bytes
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Read the orientation, from EXIF with or without its "Exif" prefix, else from XMP; 1 where neither says."""
    value = _from_exif(exif) if exif else None
    if value is None and xmp and (match := _XMP.search(xmp)):
        value = int(match[1])
    return value if value is not None and 1 <= value <= 8 else UPRIGHT


def _from_exif(exif: bytes) -> int | None:
    """Give the tag's value, or None where there is no such tag that can be read."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _TAG and kind in _TYPES and values:
                return int(struct.unpack_from(order + _TYPES[kind], exif, entry + 8)[0])
    except struct.error:  # the data ends before what it promises
        return None
    return None
