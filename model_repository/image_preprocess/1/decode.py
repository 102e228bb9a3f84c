"""Bytes of an image file to upright 8-bit pixels, or the reason why not, for the sender.

    bytes ─signatures.py─> format ─its reader─> ImageFile ─decoder─> ─flatten.py─> uint32 [H,W]

simplejpeg decodes JPEGs (jpeg_decoder.py), pillow_heif HEIF, and Pillow everything else.
"""

import importlib
import io
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import bitmaps
import complaints
import gif
import heif
import jpeg
import jpeg2000
import netpbm
import numpy as np
import png
import tiff
import webp
from flatten import Pixels, flatten, packed, upright
from image_file import ImageFile, InvalidImage, OutOfMemory, failed, truncated, unreadable
from jpeg_decoder import decode_jpeg
from PIL import AvifImagePlugin, ExifTags, Image
from signatures import identify

pillow_heif: Any = None
with suppress(ImportError):  # it may be left out; its wheels hold an encoder under the GPL
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)

Image.init()
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the processes share out the cores
# What Pillow thinks of callers' files is no concern of whoever reads the log.
warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif\.")

_SHORTAGE = re.compile(
    r"out of memory|insufficient memory|not enough memory|cannot allocate|unable to allocate"
    r"|memory allocation (?!error: security limit)",
    re.IGNORECASE,
)
_HEIF_BAND = 256  # rows

_READERS: dict[str, Callable[[bytes], ImageFile]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "WEBP": webp.read,
    "GIF": gif.read,
    "TIFF": tiff.read,
    "BMP": bitmaps.read_bmp,
    "DIB": bitmaps.read_dib,
    "PPM": netpbm.read,
    "JPEG2000": jpeg2000.read,
    "AVIF": partial(heif.read, format_name="AVIF"),
    "HEIF": partial(heif.read, format_name="HEIF"),
    "ICO": bitmaps.read_icon,
    "QOI": bitmaps.read_qoi,
}
FORMATS = tuple(name for name in _READERS if name in Image.OPEN)
"""The formats that are read here, as Pillow names them. All have a signature and are decoded inside this process."""


def read(data: bytes) -> ImageFile:
    """Read what the file says of itself. Raises InvalidImage."""
    name = identify(data)
    if name not in FORMATS:
        raise InvalidImage(f"{name}, for which this server has no decoder (pillow-heif): convert it to JPEG or PNG")
    try:
        return _READERS[name](data)
    except InvalidImage:
        raise
    except (LookupError, ValueError, ArithmeticError, struct.error) as error:
        raise unreadable(name) from error


def decode(file: ImageFile, factor: int = 1) -> tuple[Pixels, bool]:
    """Decode the image, a JPEG at 1/`factor`, and turn it upright; tell whether the result is CMYK.

    CMYK stays as it is: open_clip resizes before it converts. Raises InvalidImage and OutOfMemory.
    """
    try:
        if isinstance(file, jpeg.Jpeg):
            return upright(decode_jpeg(file, factor), file.orientation), file.components == 4
        if file.format == "HEIF":
            return _decode_heif(file), False
        return _decode_by_pillow(file)
    except (InvalidImage, OutOfMemory):
        raise
    except Exception as error:  # what a decoder raises for damaged data is not limited to any list
        raise _reason(file, error) from error


def _decode_by_pillow(file: ImageFile) -> tuple[Pixels, bool]:
    Image.MAX_IMAGE_PIXELS = None  # its size has been looked at
    image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if file.format == "TIFF":
        _load_tiff(image)
    else:
        image.load()
    if file.format == "PNG":
        _refuse_missing_rows(image, file)
    vars(image).pop("_decoder", None)  # WebP's and AVIF's hold as much as the image, or more
    orientation = file.orientation
    if file.format == "AVIF":  # by the container's own properties
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return upright(flatten(image, file), orientation), image.mode == "CMYK"


def _refuse_missing_rows(image: Image.Image, file: ImageFile) -> None:
    """Refuse a PNG whose pixels end too early, though well-formed: Pillow leaves what is missing black."""
    last = image.height - 1 - (image.height % 2 if image.info.get("interlace") and image.height > 1 else 0)
    row = image.crop((0, last, image.width, last + 1))  # the one that is decoded last
    if (image.height == 1 or row.getbbox(alpha_only=False) is None) and not png.has_all_rows(file.data):
        raise truncated("PNG", "rows are missing")


def _load_tiff(image: Image.Image) -> None:
    reason = ""
    with complaints.collected() as found:
        try:
            image.load()
        except OSError as error:  # of Pillow's, which says less than libtiff does
            reason = str(error)
    if found or reason:
        raise OSError(found[0] if found else reason)


def _decode_heif(file: ImageFile) -> Pixels:
    """Decode the primary image, which libheif also turns."""
    images = pillow_heif.open_heif(file.data, convert_hdr_to_8bit=True)
    image = images[images.primary_index]
    if image.mode != "RGB":
        return flatten(image.to_pillow(), file)
    data = image.data  # only now its size is certain
    (width, height), stride = image.size, image.stride
    pixels = np.empty((height, width), np.uint32)
    for top in range(0, height, _HEIF_BAND):  # Pillow's form of the whole image would be one more copy
        rows = min(_HEIF_BAND, height - top)
        band = Image.frombuffer("RGB", (width, rows), data[top * stride :], "raw", "RGB", stride)
        pixels[top : top + rows] = packed(band)
    return pixels


def _reason(file: ImageFile, error: Exception) -> InvalidImage | OutOfMemory:
    """Say why decoding failed. Decoders report a lack of memory in many ways, some as damage."""
    text = str(error)
    if isinstance(error, MemoryError) or _SHORTAGE.search(text):
        return OutOfMemory(text)
    with suppress(MemoryError):
        np.empty(int(file.cost.memory), np.uint8)  # which fails at once where there is not so much
        return failed(file.format, text or type(error).__name__)
    return OutOfMemory(text)
