"""Which files are images, by their names."""

import os
from typing import Final

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
