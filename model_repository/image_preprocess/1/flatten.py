"""What Pillow decoded, to pixels of 8 bits without transparency.

Where a pixel is one value (grey, or an index into a palette) the value is looked up in a table of what each means. The
work goes in bands of rows, so that a large image is never held in more forms than two.
"""

import numpy as np
from image_file import ImageFile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint32]
"""[H,W], a pixel's channels from the low byte up: red, green, blue and nothing, or cyan, magenta, yellow and black."""

_BAND = 1 << 19  # pixels
_INDEXED = ("1", "L", "P")


def flatten(image: Image.Image, file: ImageFile) -> Pixels:
    """Give the image's pixels, transparency over white; CMYK stays as it is. Raises ValueError."""
    width, height = image.size
    table = _table(image, file)
    rows = max(1, _BAND // width)
    if rows >= height:
        return _looked_up(image, table)
    pixels = np.empty((height, width), np.uint32)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(height, top + rows)))
        pixels[top : top + band.height] = _looked_up(band, table)
    return pixels


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn the stored image so that it stands upright: a view."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.T if orientation >= 5 else pixels


def to_rgb(pixels: Pixels) -> Pixels:
    """Convert CMYK, uint32 [H,W], as open_clip does."""
    height, width = pixels.shape
    return packed(Image.frombytes("CMYK", (width, height), pixels.tobytes()).convert("RGB"))


def packed(image: Image.Image) -> Pixels:
    """Give the pixels of an image of mode RGB or CMYK."""
    data = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "CMYK")
    return np.frombuffer(data, np.uint32).reshape(image.height, image.width)


def _looked_up(image: Image.Image, table: Pixels | None) -> Pixels:
    if table is None:
        return packed(_flat(image))
    if image.mode == "1":
        image = image.convert("L")
    pixels: Pixels = table.take(np.asarray(image), mode="clip")  # none is beyond: looking costs as much
    return pixels


def _table(image: Image.Image, file: ImageFile) -> Pixels | None:
    """Give the pixel that each value means, uint32 [256] or [65536]; None where a pixel has several values."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file.format in ("PPM", "PNG")):
        return _levels(file, image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise ValueError("the range of 32-bit values is not known; store it with 8 or 16 bits")
    if image.mode not in _INDEXED:
        return None
    values = image.crop((0, 0, 256, 1)) if image.mode == "P" else Image.new("L", (256, 1))
    values.frombytes(bytes(range(256)))
    values.info = image.info
    table: Pixels = packed(_flat(values))[0]
    return table


def _levels(file: ImageFile, transparent: object) -> Pixels:
    """Scale grey levels of more than 8 bits (Pillow's own conversion clips them at 255)."""
    levels, most = np.arange(65536, dtype=np.uint32), file.white_level
    grey = np.minimum((levels * 255 + most // 2) // most, 255)
    if file.is_inverted:
        grey = 255 - grey
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return (grey * 0x010101).astype(np.uint32)


def _flat(image: Image.Image) -> Image.Image:
    """Give an image without transparency, in mode RGB or CMYK."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image)
        return white
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
