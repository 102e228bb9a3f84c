"""What an image file is, as its container says: before anything is decoded, and without what cannot matter to pixels.

    bytes ─signatures.py─> format ─jpeg.py, png.py, tiff.py, …─> ImageFile ─costs.py─> allowed ─decode.py─> pixels

A container's module reads the file leniently and hands on a file that holds pixels and little else: broken profiles,
texts, thumbnails and camera data then cannot spoil what they only accompany.
"""

from dataclasses import dataclass

MAX_PARTS = 100_000  # chunks, segments, blocks or strips of a file: walking through so many takes some 50 ms


class InvalidImage(ValueError):
    """An image that cannot be used; the message is the reason, for the sender."""


class OutOfMemory(Exception):
    """There is too little memory to decode this image now; the image may be good."""


@dataclass(frozen=True)
class Cost:
    """What decoding takes at most, reckoned beforehand; `memory` in bytes."""

    nanoseconds: float
    memory: float

    def __add__(self, other: "Cost") -> "Cost":
        """Add up."""
        return Cost(self.nanoseconds + other.nanoseconds, self.memory + other.memory)


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image file. `width` and `height` are as stored; `orientation` (EXIF's, 1 to 8) says how to turn that."""

    format: str
    """the decoder's name, which is Pillow's"""
    kind: str
    """what messages call it, such as "progressive JPEG" """
    width: int
    height: int
    data: bytes
    """the file for the decoder"""
    cost: Cost
    orientation: int = 1
    white_level: int = 65535
    """of grey levels of more than 8 bits"""
    is_inverted: bool = False
    """of such grey levels: 0 is white; of a JPEG's inks: 0 is all of it"""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height, turned."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)


def not_read(what: str) -> InvalidImage:
    """Name a kind of file that is none of those read here."""
    return InvalidImage(f"{what}, which is not read here: convert it to JPEG or PNG")


def unsupported(format_name: str, what: str) -> InvalidImage:
    """Name a kind of file that is whole, but not read here."""
    return InvalidImage(f"unsupported kind of {format_name}: {what}: convert it to an ordinary JPEG or PNG")


def truncated(format_name: str, what: str) -> InvalidImage:
    """Say that a file ends too early."""
    return InvalidImage(f"truncated {format_name}: {what}")


def damaged(format_name: str, what: str) -> InvalidImage:
    """Say that a file contradicts its format; where it ends too early that may be the cause."""
    return InvalidImage(f"damaged or truncated {format_name}: {what}")


def too_many_parts(format_name: str, parts: str, limit: int = MAX_PARTS) -> InvalidImage:
    """Refuse a file that is cut into more pieces than any encoder makes."""
    return InvalidImage(f"{format_name} of more than {limit} {parts}, which is the limit")


def unreadable(format_name: str) -> InvalidImage:
    """Refuse a file whose header makes no sense."""
    return InvalidImage(f"unreadable {format_name} header: truncated, damaged or of zero size")


def failed(format_name: str, reason: str) -> InvalidImage:
    """Say why a decoder gave up, by what it says."""
    text = reason.lower()
    if text.startswith(("unsupported", "cannot handle", "unknown")):
        return unsupported(format_name, reason)
    if any(word in text for word in ("truncat", "not enough", "premature", "end of file", "buffer overrun")):
        return truncated(format_name, reason)
    return damaged(format_name, reason)
