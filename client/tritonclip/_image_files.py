"""Which files are images, by their names, and how large they may be."""

import os
from typing import Final

MOST_BYTES: Final = 64 * 1024 * 1024  # of an image; Triton takes no larger request: more is not read for nothing
_SUFFIXES: Final = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jpx",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is one to the server, as its ending says; hidden files are none."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not os.path.basename(name).startswith(".")


def too_large(size: int) -> str:
    """Why something of so many bytes is not read."""
    return f"{size:,} bytes; an image has {MOST_BYTES // 2**20} MiB at most"
