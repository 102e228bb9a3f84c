"""Small images, good and bad, for tests that send them."""

import base64
import io
import struct
import zlib

from PIL import Image


def encoded(kind: str = "PNG", size: tuple[int, int] = (8, 8), colour: str = "red") -> bytes:
    """A plain image."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64_of(data)}"


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes whose header promises so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    chunks = (header, data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


RED = encoded()
BLUE = encoded(colour="blue")
RED_URL = data_url(RED)
BLUE_URL = data_url(BLUE)
