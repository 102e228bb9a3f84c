"""What an image file says of itself in its first bytes: enough to refuse it early, never a decoder at work.

Whether an image can be used is for the model server to say. Here are only the checks that must come before it.
"""

import io
import sys
import warnings

from PIL import Image

Image.init()
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # sizes are only read, never decoded

# Formats whose header alone tells the size. ICO is not among them: Pillow decodes it when it opens it. What is not
# recognised here goes to the model server as it is, which knows more formats and has the same limit.
_HEADERS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "QOI")

SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"qoif",
    b"\0\0\1\0",  # ICO
)
_BOXED = (b"avif", b"avis", b"heic", b"heix", b"mif1")  # ISO media files, by their brand
_SIGNATURE_BYTES = 12


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of a known image format."""
    return (
        data.startswith(SIGNATURES)
        or (data[:4] == b"RIFF" and data[8:_SIGNATURE_BYTES] == b"WEBP")
        or (data[4:8] == b"ftyp" and data[8:_SIGNATURE_BYTES] in _BOXED)
        or (data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace())
    )


def pixels_of(data: bytes) -> int | None:
    """Width times height as the header has it; None where there is no telling."""
    try:
        image = Image.open(io.BytesIO(data), formats=_HEADERS)
    except Image.DecompressionBombError:
        return sys.maxsize
    except Exception:  # what a parser raises for damaged data is not limited to any list
        return None
    return image.width * image.height
