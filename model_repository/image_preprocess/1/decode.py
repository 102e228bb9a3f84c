"""Bytes of an image file to upright 8-bit pixels, or the reason why not, for the sender.

    bytes ─header─> format, size, orientation ─decode─> ─flatten─> ─turn─> uint32 [H,W]

Pillow reads the header and decodes. Where simplejpeg can (an undamaged JPEG in colour or grey), it decodes instead: it
is libjpeg-turbo as well and gives the same pixels in two thirds of the time.
"""

import importlib
import io
import struct
import warnings
from contextlib import suppress

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

with suppress(ImportError):  # HEIC, where the plugin is installed
    importlib.import_module("pillow_heif").register_heif_opener()
Image.init()

# Formats with a signature, decoded inside this process. Left out on purpose: EPS (runs Ghostscript), WMF (needs a
# renderer), TGA and others without a signature, and rarities that no photograph arrives in. MPO opens as JPEG.
_ALLOWED = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO", "QOI")
FORMATS = tuple(name for name in _ALLOWED if name in Image.OPEN)

# Pillow itself raises above twice its limit (`open_image` makes that ours) and warns above once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_MAX_WIDTH = 2**26 - 1  # Pillow counts the bits of a row in 32 of them, and fails with a MemoryError

Pixels = NDArray[np.uint32]
"""[H,W], a pixel's channels from the low byte up: red, green, blue and nothing, or cyan, magenta, yellow and black."""


class InvalidImage(ValueError):
    """An image that cannot be used; the message is the reason, for the sender."""


def open_image(data: bytes, max_pixels: int) -> ImageFile:
    """Read the header only. Raises InvalidImage, also for more than `max_pixels` of them."""
    # A global of Pillow, and the one guard for images inside images (ICO): set on each call, so that the limit
    # of the transform at work holds whatever else the process did.
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(max_pixels) from error
    except UnidentifiedImageError as error:
        raise InvalidImage(_unidentified(data)) from error
    except Exception as error:
        raise _undecodable(_signature(data), error) from error
    if image.width * image.height > max_pixels:
        raise _too_many_pixels(max_pixels, f"{image.width}x{image.height} is ")
    if image.width > _MAX_WIDTH:
        raise InvalidImage(f"{image.width} pixels wide, more than the limit of {_MAX_WIDTH}")
    return image


def orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8. Damaged metadata does not spoil a good image: it counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def decode(image: ImageFile, data: bytes, max_pixels: int) -> tuple[Pixels, bool]:
    """Decode what `open_image` made of `data`, and perhaps `draft` since; tell whether the result is CMYK.

    CMYK stays as it is: open_clip resizes before it converts. Raises InvalidImage.
    """
    pixels = _decode_jpeg(image, data)
    if pixels is not None:
        return _upright(pixels, orientation(image)), False
    try:
        image.load()
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # what a decoder raises for damaged data is not limited to any list
        raise _undecodable(image.format, error) from error
    try:
        flat = _flatten(image)
    except Exception as error:
        raise InvalidImage(f"{image.format} of mode {image.mode} cannot be converted to RGB: {error}") from error
    return _upright(_packed(flat), orientation(image)), flat.mode == "CMYK"


def to_rgb(pixels: Pixels) -> Pixels:
    """Convert CMYK, uint32 [H,W], as open_clip does."""
    height, width = pixels.shape
    return _packed(Image.frombytes("CMYK", (width, height), pixels.tobytes()).convert("RGB"))


def _decode_jpeg(image: ImageFile, data: bytes) -> Pixels | None:
    """Decode a JPEG at the size that `image` has; None where Pillow must do it, or say what is wrong."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        channels = simplejpeg.decode_jpeg(data, "RGBX", min_height=image.height, min_width=image.width)
    except ValueError:  # of any irregularity, also of those that Pillow lets pass
        return None
    if channels.shape[:2] != (image.height, image.width):
        return None
    pixels: Pixels = channels.view(np.uint32)[..., 0]
    return pixels


def _packed(image: Image.Image) -> Pixels:
    """Give the pixels of an image of mode RGB or CMYK."""
    data = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "CMYK")
    return np.frombuffer(data, np.uint32).reshape(image.height, image.width)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn the stored image so that it stands upright: a view."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.T if orientation >= 5 else pixels


def _flatten(image: Image.Image) -> Image.Image:
    """Give an 8-bit image without transparency, in mode RGB or CMYK."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return _from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("the range of 32-bit values is not known; store it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image)
        return white
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels to 8 bits (Pillow's own conversion clips them at 255)."""
    levels = np.asarray(image).astype(np.int64)
    # TIFF alone stores 12 bits (and others) as they are; everything else fills the 16.
    bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]
    most = 2**bits - 1
    grey = np.clip((levels * 255 + most // 2) // most, 0, 255).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey)


def _too_many_pixels(limit: int, size: str = "") -> InvalidImage:
    return InvalidImage(f"{size}more pixels than the limit of {limit}")


def _signature(data: bytes) -> str | None:
    """Name the format whose signature the data starts with."""
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        with suppress(IndexError, struct.error):  # fewer bytes than the signature has
            if accept and accept(data[:16]) is True:
                return name
    return None


def _unidentified(data: bytes) -> str:
    name = _signature(data)
    if name:
        return f"unreadable {name} header: truncated, damaged or of zero size"
    if data[:32].isascii() and data[:32].decode().isprintable():
        return f"text, not the bytes of an image file: it starts with {data[:32].decode()!r}"
    return f"unknown image format: it starts with {data[:8].hex(' ')}"


def _undecodable(name: str | None, error: Exception) -> InvalidImage:
    text = str(error) or type(error).__name__
    truncated = any(word in text.lower() for word in ("truncat", "not enough", "premature"))
    return InvalidImage(f"{'truncated' if truncated else 'damaged or truncated'} {name or 'image'}: {text}")
