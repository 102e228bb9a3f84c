"""What bytes are, by their beginning: an image of a known format, or what else came in its place.

Whether an image can be used is for the model server to say. Here are only the checks that must come before it: whether
a fetched file may be passed on at all, and whether a text is an image's bytes in disguise.
"""

import re

_IMAGES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, and with 64-bit offsets
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"qoif",
    b"\0\0\1\0",  # ICO
)
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf")
_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes, of all versions of BMP: two letters alone are a word
_PORTABLE = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d")  # PBM, PGM, PPM
SIGNATURE_BYTES = 32

# What is no image that is read here, in the words of an error.
_OTHERS = (
    (b"%PDF-", "a PDF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "a JPEG XL image, which is not read here"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image, which is not read here"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
)
_FILES = (b"%PDF-", b"8BPS", b"PK\x03\x04", b"\x1f\x8b\x08", b"\0\0\0\x0cJXL ")  # long enough to be no accident
_READ_TEXT_BYTES = 1024


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of a known image format."""
    head = data[:SIGNATURE_BYTES]
    return (
        head.startswith(_IMAGES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS)
        or _PORTABLE.match(data[:_READ_TEXT_BYTES]) is not None
    )


def is_file(data: bytes) -> bool:
    """Whether the first bytes are those of a file that people send for an image, and that is not read here."""
    return data.startswith(_FILES) or b"<svg" in data[:_READ_TEXT_BYTES].lower()


def kind_of(data: bytes) -> str:
    """What bytes that are no image are, as far as their beginning tells."""
    head = data[:_READ_TEXT_BYTES]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for signature, kind in _OTHERS:
        if text.startswith(signature):
            return kind
    lower = text.lower()
    if b"<svg" in lower:
        return "an SVG drawing"
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in lower:
        return "an HTML page"
    if head[4:8] == b"ftyp":
        return "a video"
    if text.startswith(b"<"):
        return "an XML document"
    if not head.strip(b"\0"):
        return "nothing but zeros" if head else "empty"
    return "text" if head.isascii() and text.decode("ascii").isprintable() else "no image of a known format"
