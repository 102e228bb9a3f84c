"""What an index keeps of an image beside its vector: size, digest, thumbnail."""

import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image

from tritonclip._thumbnails import shrink

THUMBNAIL_SIDE = 128  # pixels, the longer one
JPEG_QUALITY = 75


@dataclass(frozen=True)
class Details:
    """Of one image file; None for what Pillow cannot tell of it here, though the server may read it.

    Of a vector that was made elsewhere nothing is known.
    """

    width: int | None = None
    height: int | None = None
    byte_count: int | None = None
    digest: str | None = None
    thumbnail: bytes | None = None


def describe(content: bytes, *, thumbnail: bool) -> Details:
    """Pixels a side as the image is to be seen (upright), SHA-256, and a JPEG of THUMBNAIL_SIDE at most a side."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            width, height = _upright_size(image)
            small = _thumbnail(image) if thumbnail else None
    except Exception:  # whatever a decoder raises: the server's word counts, and it has taken the image
        return Details(None, None, len(content), digest, None)
    return Details(width, height, len(content), digest, small)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF's Orientation: these lie on their sides
    return (image.height, image.width) if turned else (image.width, image.height)


def _thumbnail(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    shrink(image, THUMBNAIL_SIDE).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
